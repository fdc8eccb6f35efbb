[ -e "$kept" ] && cat "$kept"
xl restore "$file" </dev/null >&2
status=$?
[ "$status" = 0 ] && describe && ask after "$say"
[ "$status" = 0 ] && rm -f "$file" "$kept"
exit "$status"
