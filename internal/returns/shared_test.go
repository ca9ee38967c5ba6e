package returns

import (
	"slices"
	"strings"
	"testing"

	"mailout/internal/mta"
	"mailout/internal/submit"
)

// TestSomebodyBehind: that a member of a list is dead is told, but the list is not
// dead for it; unless the report speaks of the list as well.
func TestSomebodyBehind(t *testing.T) {
	t.Parallel()
	report := func(final, original string) string {
		return strings.NewReplacer("ann@inner.example.com", final, "ann@example.com", original).Replace(sample(t, "postfix"))
	}
	for name, c := range map[string]struct {
		report string
		learnt bool
	}{
		"the recipient":          {report("ann@example.com", "ann@example.com"), true},
		"in another domain":      {report("Ann@mail.corp.example", "Ann@mail.corp.example"), true},
		"as it was given":        {report("u4711@corp.example", "ann@example.com"), true},
		"a member":               {report("dan@elsewhere.example", "dan@elsewhere.example"), false},
		"a member and the list":  {strings.Replace(report("dan@elsewhere.example", "dan@elsewhere.example"), "\nFinal-Recipient:", "\nFinal-Recipient: rfc822; ann@example.com\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 gone\n\nFinal-Recipient:", 1), true},
		"in words, without name": {"From: MAILER-DAEMON@example.com\r\nSubject: Undelivered\r\n\r\n550 5.1.1 User unknown\r\n", true},
	} {
		d := newDesk(t)
		for range 2 { // a copy adds nothing
			if err := d.send(d.path("ann@example.com"), c.report); err != nil {
				t.Fatal(err)
			}
		}
		if got := d.new(); !strings.HasPrefix(got, "bounced ann@example.com 550 5.1.1 ") || strings.Contains(got, ";") || len(d.reports) != 1 {
			t.Errorf("%s: %s", name, got)
		}
		if (len(d.evidence) == 1) != c.learnt || c.learnt && (d.evidence[0].Unsure || !d.evidence[0].Back) {
			t.Errorf("%s: %+v", name, d.evidence)
		}
	}
}

// TestSharedPathsAreUnsure: each recipient of a transaction sees its return path,
// and could send reports about the others.
func TestSharedPathsAreUnsure(t *testing.T) {
	t.Parallel()
	for name, report := range map[string]string{
		"bounce":    sample(t, "postfix"),
		"complaint": strings.ReplaceAll(sample(t, "arf"), "ann@isp.example", "ann@example.com"),
	} {
		d := newDesk(t)
		path := d.path("ann@example.com", "bob@example.com")
		for range 2 { // a copy adds nothing
			if err := d.send(path, report); err != nil {
				t.Fatal(err)
			}
		}
		if len(d.journal) != 7 || len(d.evidence) != 1 || !d.evidence[0].Unsure || d.evidence[0].Address != "ann@example.com" {
			t.Errorf("%s: %s %+v", name, d.new(), d.evidence)
		}
	}
}

// TestCopiesOfAnAddress: case makes no other address, so none is read twice.
func TestCopiesOfAnAddress(t *testing.T) {
	t.Parallel()
	path := newDesk(t).path("ann@example.com")
	d := &draft{request: request(path, strings.ToUpper(path), "fbl@"+domain, path)}
	if got := d.addresses(); !slices.Equal(got, []string{path, "fbl@" + domain}) {
		t.Error(got)
	}
}

// TestReportsOfSuccess go to the return path, where the next host sends them: to
// who asked for them.
func TestReportsOfSuccess(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	m := &mta.Message{ID: letterID, Envelope: mta.Envelope{Sender: "app@widget.example"}}
	for notify, kept := range map[mta.Notify]bool{
		mta.NotifyDefault: false, mta.NotifyFailure: false, mta.NotifyDelay | mta.NotifyFailure: false, mta.NotifyNever: false,
		mta.NotifySuccess: true, mta.NotifySuccess | mta.NotifyFailure: true,
	} {
		rcpts := []mta.Recipient{{Address: "bob@example.com"}, {Address: "ann@example.com", Notify: notify}}
		if got := d.ReturnPath(&mta.Delivery{Message: m}, &mta.Route{}, rcpts); (got == m.Envelope.Sender) != kept {
			t.Errorf("NOTIFY %v: %s", notify, got)
		}
	}
}

func request(addresses ...string) *submit.Request {
	r := &submit.Request{}
	for _, a := range addresses {
		r.Recipients = append(r.Recipients, mta.Recipient{Address: a})
	}
	return r
}

// TestLongNames: a reporter writes as much as it likes; a record keeps what a name
// may have.
func TestLongNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 200_000)
	for name, report := range map[string]string{
		"remote":   strings.Replace(sample(t, "postfix"), "Remote-MTA: dns; ", "Remote-MTA: dns; "+long, 1),
		"reporter": strings.Replace(strings.Replace(sample(t, "postfix"), "Remote-MTA:", "X-No:", 1), "Reporting-MTA: dns; ", "Reporting-MTA: dns; "+long, 1),
	} {
		d := newDesk(t)
		if err := d.send(d.path("ann@example.com"), report); err != nil {
			t.Fatal(err)
		}
		if r := d.journal[6]; len(r.Reason) > 400 || len(d.reports[0].Host) > 300 || !strings.Contains(r.Reason, "xxx") {
			t.Errorf("%s: a reason of %d octets, a host of %d", name, len(r.Reason), len(d.reports[0].Host))
		}
	}
}
