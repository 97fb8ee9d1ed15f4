# Links the farm's programs in $PREFIX into $BINDIR, and says how to call them. `make install` runs it.
set -eu

programs="farmctl farmd farm-node"
prefix=$(cd "$PREFIX" && pwd)
mkdir -p "$BINDIR"
for program in $programs; do
    # A link may be to an older place of the farm. A file is somebody's own.
    if [ -e "$BINDIR/$program" ] && [ ! -L "$BINDIR/$program" ]; then
        echo "$BINDIR/$program exists and is no link; move it away, or name another folder: make install BINDIR=FOLDER" >&2
        exit 1
    fi
done
for program in $programs; do
    ln -sfn "$prefix/bin/$program" "$BINDIR/$program"
done
echo "farmctl, farmd and farm-node are linked in $BINDIR"
case ":$PATH:" in
*":$BINDIR:"*) ;;
*)
    echo "which is not in PATH yet. This line adds it; put it into ~/.profile too:"
    echo "    export PATH=\"$BINDIR:\$PATH\""
    ;;
esac
