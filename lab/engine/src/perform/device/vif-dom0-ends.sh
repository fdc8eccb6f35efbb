n=0
until [ -e "$files.got" ]; do
	n=$((n + 1))
	[ $n -lt 100 ] || { echo "what $domain sent did not come to an end" >&2; exit 1; }
	sleep 0.1
done
echo "got $(sha256sum <"$files.got" | cut -d ' ' -f 1)"
find_device
counted "vif$d.$number" after
rm -f "$files.got" "$files.out" "$files.fifo"
