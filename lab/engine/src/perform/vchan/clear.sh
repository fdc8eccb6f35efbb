# Nothing stays of an end, however it went.
if cd "$folder" 2>/dev/null; then
	rm -f hold
	[ -e pid ] && read -r pid <pid && [ ! -e status ] && kill -9 "$pid" 2>/dev/null
	cd / && rm -rf "$folder"
fi
:
