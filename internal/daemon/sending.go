package daemon

import (
	"github.com/danielgtaylor/huma/v2"

	"mailout/internal/config"
	"mailout/internal/submit/httpapi"
)

// senderShare of limits.memory is what requests that send may hold at once.
const senderShare = 4

// sendingDoors makes the doors for programs that send over HTTP.
func (d *Daemon) sendingDoors(c *config.Config) []func(huma.API) {
	sender := httpapi.NewSender(httpapi.Options{
		Intake: d.intake, Reservations: d.store, Limits: d.sendingLimits, Memory: c.Limits.Memory / senderShare,
	})
	return []func(huma.API){func(api huma.API) { httpapi.Register(api, sender) }, d.dropinDoor(sender)}
}

func (d *Daemon) sendingLimits() httpapi.Limits {
	d.mu.Lock()
	defer d.mu.Unlock()
	return httpapi.Limits{MessageSize: d.mu.config.Limits.MessageSize, Recipients: d.mu.config.Limits.Recipients}
}
