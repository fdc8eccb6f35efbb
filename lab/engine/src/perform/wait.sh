# A wait of so many seconds, without a process for each look at the clock.
begin() { read -r begun rest </proc/uptime; begun=${begun%.*}; }
within() { read -r now rest </proc/uptime; [ $((${now%.*} - begun)) -le "$seconds" ]; }
