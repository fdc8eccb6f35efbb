find_device
[ "$number" != none ] || { echo "$domain has no network interface with the address $mac" >&2; exit 1; }
head -c "$bytes" /dev/urandom >"$files.out"
echo "sent $(sha256sum <"$files.out" | cut -d ' ' -f 1)"
rm -f "$files.fifo" "$files.got"
mknod "$files.fifo" p
counted "vif$d.$number" before
# Whoever receives must not be the first to say that nothing more comes: the other would take it for the end.
{ timeout 60 $bb nc -l -p "$to_guest" <"$files.out"; } >/dev/null 2>&1 &
{ timeout 60 $bb nc -l -p "$from_guest" <>"$files.fifo" >"$files.in" && mv "$files.in" "$files.got"; } >/dev/null 2>&1 &
for port in "$to_guest" "$from_guest"; do
	n=0
	until grep -qi ":$(printf %04x "$port") 0*:0000 0A " /proc/net/tcp /proc/net/tcp6 2>/dev/null; do
		n=$((n + 1))
		[ $n -lt 100 ] || { echo "nobody listens on port $port" >&2; exit 1; }
		sleep 0.1
	done
done
