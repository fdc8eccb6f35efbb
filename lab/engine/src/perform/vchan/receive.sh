# Waits until everything has come, nothing more comes for a while, or this end is gone.
cd "$folder" || exit
was=-1
begin
while set -- $(wc -c <got); is=$1; [ "$is" -lt "$bytes" ] && [ ! -e status ] && within; do
	[ "$is" = "$was" ] || begin
	was=$is
	sleep 0.1
done
[ -e status ] && echo "status $(cat status)"
set -- $(wc -c <got)
echo "bytes $1"
set -- $(sha256sum <got)
echo "received $1"
tail -n 8 err | sed 's/^/stderr /'
