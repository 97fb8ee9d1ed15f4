# Links the programs that are its arguments from $PREFIX into $BINDIR, and says how to call them. `make install` runs it.
set -eu

prefix=$(cd "$PREFIX" && pwd)
mkdir -p "$BINDIR"
for program in "$@"; do
    # A link may be to an older place of the farm. A file is somebody's own.
    if [ -e "$BINDIR/$program" ] && [ ! -L "$BINDIR/$program" ]; then
        echo "$BINDIR/$program exists and is no link; move it away, or name another folder: make install BINDIR=FOLDER" >&2
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
    echo "which is not in PATH yet. This line adds it; put it into ~/.profile too:"
    echo "    export PATH=\"$BINDIR:\$PATH\""
    ;;
esac
