# Lays programs into a guest's initramfs, each with its libraries under the paths that dom0's own loader finds them at.
stage=$to.root
rm -rf "$stage" && mkdir -p "$stage/programs" || exit
for name in $names; do
	real=$(command -v "$name") && real=$(readlink -f "$real") || { echo "$name: not found" >&2; exit 127; }
	libraries=$(LD_TRACE_LOADED_OBJECTS=1 "$real" 2>/dev/null | sed -n 's/^[^/]*\(\/[^ ]*\) (0x.*/\1/p')
	# What glibc loads by itself when a thread is to end.
	for file in $libraries; do
		case $file in */libc.so.6) [ -e "${file%/*}/libgcc_s.so.1" ] && libraries="$libraries ${file%/*}/libgcc_s.so.1" ;; esac
	done
	paths=
	for file in "$real" $libraries; do
		[ -e "$stage$file" ] || { mkdir -p "$stage${file%/*}" && cp -L "$file" "$stage$file"; } || exit
		case :$paths: in *:"${file%/*}":*) ;; *) paths=${paths:+$paths:}${file%/*} ;; esac
	done
	printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$paths" "$real" >"$stage/programs/$name" || exit
	chmod 755 "$stage/programs/$name"
done
{ cat "$initrd" && (cd "$stage" && find . | cpio -o -H newc 2>/dev/null); } >"$to" || exit
rm -rf "$stage"
