package daemon

import "mailout/internal/submit/smtpd"

// DoorCounts are the totals of one [[listen]].
type DoorCounts struct {
	Listener string // its address as the configuration has it
	smtpd.Counts
}

// DoorCounts gives the totals of every SMTP door, for the metrics. It is safe
// for concurrent use once the daemon has started.
func (d *Daemon) DoorCounts() []DoorCounts {
	out := make([]DoorCounts, len(d.doors))
	for i, door := range d.doors {
		out[i] = DoorCounts{Listener: door.listener.Address.String(), Counts: door.server.Counts()}
	}
	return out
}
