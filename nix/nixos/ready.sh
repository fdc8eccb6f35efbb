# Ready means: systemd has done what it was to do at boot and is in multi-user, this is the control domain of a Xen, and the store answers.
# Units that failed keep nobody from coming here: they are judged by steps, with their logs.

say() {
	printf '\nxenlab: %s %s %s\n' "$1" "$(cat /xenlab/nonce)" "$2" >/dev/hvc0
}
fail() {
	say failed "$1"
	exit 1
}

systemctl is-system-running --wait >/dev/null 2>&1 || true
[ -c /dev/hvc0 ] || exit 1
[ -e /proc/xen/capabilities ] || fail no-xen
[ "$(cat /proc/xen/capabilities)" = control_d ] || fail not-a-control-domain
systemctl --quiet is-active multi-user.target || fail service-multi-user.target
# Without a daemon it asks the kernel, which waits for one.
timeout 30 xenstore-read /local/domain/0/domid >/dev/null 2>&1 || fail store
say ready ''
