was=$(xl domid "$domain") || exit 125
echo "was $was"
ask before "$draw"
# The receiving side makes the domain under this name and renames it later; the console daemon goes on writing to the log that it opened then.
incoming="$domain--incoming"
ln -f "$log" "${log%"$domain.log"}$incoming.log"
xl migrate -s '' "$domain" "$receive" </dev/null >&2
status=$?
if [ "$status" != 0 ]; then
	# The receiving side undoes what it had begun.
	i=0
	while [ "$i" -lt 50 ] && d=$(xl domid "$incoming" 2>/dev/null); do
		i=$((i + 1))
		sleep 0.2
	done
	d=$(xl domid "$incoming" 2>/dev/null) && echo "incoming $d"
fi
describe
ask after "$say"
exit "$status"
