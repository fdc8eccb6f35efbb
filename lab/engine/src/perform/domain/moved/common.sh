# ask WORD SCRIPT: prints `WORD ANSWER` of the small guest; nothing, where it is none or does not answer.
ask() {
	[ -z "$serial" ] || count "$1"
	[ -n "$2" ] || return 0
	d=$(xl domid "$domain" 2>/dev/null) || return 0
	tty=$(xenstore-read "/local/domain/$d/console/tty") || return 0
	read -r n <"$nonce"
	printf '%s\n' "$id$1 $2" >"$tty" || return 0
	i=0
	while [ "$i" -lt 60 ]; do
		a=$(grep -a "^xenlab-guest: ran $n $id$1 " "$log") && echo "$1 $a" && return 0
		i=$((i + 1))
		sleep 0.2
	done
}
# count WORD: prints `WORD` and the next number that the boot sector says; the device model that goes on writes to an empty file.
count() {
	read -r n <"$nonce"
	last=$(tick)
	i=0
	while [ "$i" -lt 60 ]; do
		a=$(tick)
		[ -n "$a" ] && [ "$a" != "$last" ] && echo "$1 $a" && return 0
		i=$((i + 1))
		sleep 0.2
	done
}
tick() { grep -a "^xenlab-guest: tick $n [0-9a-f]\{8\}" "$serial" 2>/dev/null | tail -n 1 | tr -d '\r'; }
describe() {
	echo "domid $(xl domid "$domain" 2>/dev/null)"
	xl list --long "$domain" 2>/dev/null | sed -n 's/.*"type": "\([a-z]*\)".*/type \1/p' | head -n 1
}
