package daemon

import (
	"testing"

	"mailout/internal/config"
)

// TestADoorNeverPromisesMoreThanIntakeTakes: a listener that is gone from the
// file lives on with its old limits until the restart.
func TestADoorNeverPromisesMoreThanIntakeTakes(t *testing.T) {
	t.Parallel()
	c := &config.Config{Limits: config.Limits{MessageSize: 1000, Recipients: 200}}
	s := doorSettings(c, config.Listener{MessageSize: 2000, Recipients: 500})
	if in := intakeSettings(c); s.Limits.MessageSize != in.MaxSize || s.Limits.Recipients != in.MaxRecipients {
		t.Errorf("the door lets in %d octets for %d", s.Limits.MessageSize, s.Limits.Recipients)
	}
}
