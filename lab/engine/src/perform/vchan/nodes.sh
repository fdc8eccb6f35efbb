# Waits until the server has put into the store what a client needs.
echo "node $node"
begin
while ! port=$(xenstore-read "$node/event-channel" 2>/dev/null) && within; do sleep 0.1; done
ring=$(xenstore-read "$node/ring-ref" 2>/dev/null)
echo "ring-ref ${ring:-none}"
echo "event-channel ${port:-none}"
