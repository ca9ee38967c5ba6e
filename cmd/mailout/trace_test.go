package main

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"mailout/internal/mta"
)

// What a record looks like to a person: of a message or of none, and no word of
// clear text where credentials were refused inside TLS.
func TestPrintRecord(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	refused := mta.Record{Time: at, Event: mta.EventDeferred, Sender: "a@b.example", Recipient: "c@d.example", Host: "relay.example", IP: netip.MustParseAddr("192.0.2.1"), Code: 535, Reason: "refused our credentials"}
	refused.Tries = []mta.Try{{Host: "relay.example", Stage: mta.StageAuth}}
	tests := map[string]struct {
		r        mta.Record
		has, not []string
	}{
		"a router": {
			mta.Record{Time: at, Event: mta.EventRouter, Recipient: mta.RouterRecipient, Host: "relay.example", Reason: "it cannot be used"},
			[]string{"Z  router     ", "  relay.example\n    outcome   it cannot be used\n"}, []string{"→", "invalid IP", "attempt", "as  "},
		},
		"standing": {
			mta.Record{Time: at, Event: mta.EventStanding, Recipient: mta.StandingRecipient, Site: "mx.example", Reason: "slowed"},
			[]string{"  mx.example\n    outcome   slowed\n"}, []string{"→", "attempt"},
		},
		"a TLS report": {
			mta.Record{Time: at, Event: mta.EventTLSReport, Recipient: mta.TLSReportRecipient, Destination: "example.com", Reason: "was taken"},
			[]string{"  example.com\n    outcome   was taken\n"}, []string{"→", "attempt"},
		},
		"credentials": {refused, []string{"a@b.example → c@d.example", "attempt"}, []string{"clear text"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			printRecord(&out, &test.r)
			for _, s := range test.has {
				if !strings.Contains(out.String(), s) {
					t.Errorf("%q is not in\n%s", s, out.String())
				}
			}
			for _, s := range test.not {
				if strings.Contains(out.String(), s) {
					t.Errorf("%q is in\n%s", s, out.String())
				}
			}
		})
	}
}
