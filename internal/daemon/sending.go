package daemon

import (
	"github.com/danielgtaylor/huma/v2"

	"mailout/internal/config"
	"mailout/internal/submit/httpapi"
	"mailout/internal/suppress"
)

// senderShare of limits.memory is what requests that send may hold at once.
const senderShare = 4

// sendingDoors makes the doors for programs that send over HTTP.
func (d *Daemon) sendingDoors(c *config.Config) []func(huma.API) {
	sender := httpapi.NewSender(httpapi.Options{
		Intake: d.intake, Reservations: d.store, Limits: d.sendingLimits, Memory: c.Limits.Memory / senderShare,
	})
	return []func(huma.API){func(api huma.API) { httpapi.Register(api, sender) }, d.dropinDoor(sender), func(api huma.API) { suppress.Register(api, d.suppression.list) }}
}

// sendingLimits does not wait for the daemon's lock: a reload holds it while
// receivers of events and pickup directories end, and requests go on.
func (d *Daemon) sendingLimits() httpapi.Limits { return *d.web.limits.Load() }

// limitSending puts a configuration in force for requests that send.
func (d *Daemon) limitSending(c *config.Config) {
	d.web.limits.Store(&httpapi.Limits{MessageSize: c.Limits.MessageSize, Recipients: c.Limits.Recipients})
}
