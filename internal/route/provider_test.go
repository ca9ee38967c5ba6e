package route

import (
	"testing"

	"mailout/internal/mta"
)

func TestProviderIsOfDirectRoutesOnly(t *testing.T) {
	t.Parallel()
	google := []mta.Host{{Name: "aspmx.l.google.com", Preference: 1}, {Name: "mx.example.com", Preference: 5}}
	if got := provider(&mta.Route{Hosts: google}); got != "google" {
		t.Errorf("direct: %q", got)
	}
	if got := provider(&mta.Route{Hosts: google, Router: "aspmx.l.google.com"}); got != "" {
		t.Errorf("router: %q", got)
	}
	if got := provider(&mta.Route{}); got != "" {
		t.Errorf("no hosts: %q", got)
	}
}
