# Whether the server's node is still in the store; it does not stay.
echo "node $node"
if xenstore-exists "$node"; then
	echo left yes
	xenstore-rm "$node"
else
	echo left no
fi
