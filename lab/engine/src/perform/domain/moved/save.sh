was=$(xl domid "$domain") || exit 125
{ echo "was $was"; ask before "$draw"; } >"$kept"
cat "$kept"
xl save "$domain" "$file" </dev/null >&2
status=$?
if [ "$status" != 0 ]; then
	describe
	ask after "$say"
	exit "$status"
fi
echo "bytes $(stat -c %s "$file")"
echo "magic $(head -c 27 "$file" | tr -d '\0')"
