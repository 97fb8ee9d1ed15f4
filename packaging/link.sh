# Link the programs named as arguments from $PREFIX into $BINDIR, and say how to call them. `make install` runs this script.
set -eu

prefix=$(cd "$PREFIX" && pwd)
mkdir -p "$BINDIR"
for program in "$@"; do
    # A link may point to an older installation of the farm. A file belongs to somebody else.
    if [ -e "$BINDIR/$program" ] && [ ! -L "$BINDIR/$program" ]; then
        echo "$BINDIR/$program exists and is not a link; move it away, or name another folder: make install BINDIR=FOLDER" >&2
        exit 1
    fi
done
for program in "$@"; do
    ln -sfn "$prefix/bin/$program" "$BINDIR/$program"
done
echo "linked in $BINDIR: $*"
case ":$PATH:" in
*":$BINDIR:"*) ;;
*)
    echo "$BINDIR is not in PATH yet. This line adds it; put the line into ~/.profile too:"
    echo "    export PATH=\"$BINDIR:\$PATH\""
    ;;
esac
