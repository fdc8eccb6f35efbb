# Starts an end of the channel: what it is to send is drawn anew, and what it is given to read stays open until `hold` is gone, since a
# proxy that reads an end of file closes the channel and what is then under way is lost.
mkdir "$folder" && cd "$folder" || exit
command -v "$program" >/dev/null || { echo "$program: not found" >&2; exit 127; }
head -c "$bytes" /dev/urandom >sent || exit
: >hold
: >got
{
	{
		cat sent
		while [ -e hold ]; do sleep 0.1; done
	} | {
		sh -c 'echo $$ >pid; exec "$@"' sh "$program" --mode="$mode" "$peer" "$node" - >got 2>err
		echo $? >status.new
		mv status.new status
	}
} </dev/null >/dev/null 2>&1 &
set -- $(sha256sum <sent)
echo "sent $1"
