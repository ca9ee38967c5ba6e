package tlsrpt

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"mailout/internal/mta"
)

// strict* are RFC 8460 4.4, with nothing beside it.
type strictText struct {
	Organization string `json:"organization-name"`
	Range        struct {
		Start string `json:"start-datetime"`
		End   string `json:"end-datetime"`
	} `json:"date-range"`
	Contact  string `json:"contact-info"`
	ID       string `json:"report-id"`
	Policies []struct {
		Policy struct {
			Type   string   `json:"policy-type"`
			String []string `json:"policy-string"`
			Domain string   `json:"policy-domain"`
			MXHost []string `json:"mx-host"`
		} `json:"policy"`
		Summary struct {
			Success *uint64 `json:"total-successful-session-count"`
			Failure *uint64 `json:"total-failure-session-count"`
		} `json:"summary"`
		Details []struct {
			Result     string      `json:"result-type"`
			From       *netip.Addr `json:"sending-mta-ip"`
			Host       string      `json:"receiving-mx-hostname"`
			Helo       string      `json:"receiving-mx-helo"`
			IP         *netip.Addr `json:"receiving-ip"`
			Count      uint64      `json:"failed-session-count"`
			Additional string      `json:"additional-information"`
			Reason     string      `json:"failure-reason-code"`
		} `json:"failure-details"`
	} `json:"policies"`
}

// strictReport reads a report as a receiver would that takes nothing but what the
// RFC says.
func strictReport(t *testing.T, plain []byte) *strictText {
	t.Helper()
	out := &strictText{}
	d := json.NewDecoder(bytes.NewReader(plain))
	d.DisallowUnknownFields()
	if err := d.Decode(out); err != nil {
		t.Fatalf("%v in %s", err, plain)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		t.Error("there is something behind the report")
	}
	for _, text := range []string{out.Range.Start, out.Range.End} {
		if at, err := time.Parse(time.RFC3339, text); err != nil || at.Location() != time.UTC {
			t.Errorf("%q is no time in UTC", text)
		}
	}
	if _, err := mail.ParseAddress(out.Contact); err != nil || out.Organization == "" || out.ID == "" || len(out.Policies) == 0 {
		t.Errorf("incomplete: %s", plain)
	}
	for _, p := range out.Policies {
		if !slices.Contains([]string{"sts", "tlsa", "no-policy-found"}, p.Policy.Type) || p.Policy.Domain == "" || p.Summary.Success == nil || p.Summary.Failure == nil {
			t.Errorf("a policy is not as it should be: %+v", p)
		}
		for _, f := range p.Details {
			if !slices.Contains(results, f.Result) || f.Count == 0 {
				t.Errorf("a failure is not as it should be: %+v", f)
			}
		}
	}
	return out
}

// checkMail holds a report by mail to RFC 8460 5.3.
func checkMail(t *testing.T, m fakeMail, to string, text *strictText, packed []byte) {
	t.Helper()
	q := m.request
	if len(q.Recipients) != 1 || q.Recipients[0].Address != to || q.Recipients[0].Notify != mta.NotifyNever || q.Envelope.Sender != "tls@sender.example" || q.Stream != Stream {
		t.Errorf("handed over as %+v", q)
	}
	if left := q.Expires.Sub(q.ID.Time()); left < GiveUp || left > GiveUp+Spread {
		t.Errorf("it expires after %s", left)
	}
	for _, l := range bytes.Split(m.content, []byte("\r\n")) {
		if len(l) > 998 || bytes.ContainsAny(l, "\r\n") {
			t.Errorf("a line that is none: %q", l)
		}
	}
	msg, err := mail.ReadMessage(bytes.NewReader(m.content))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"From": "Sender <tls@sender.example>", "To": "<" + to + ">", "TLS-Report-Domain": "example.com", "TLS-Report-Submitter": "sender.example",
		"TLS-Required": "No", "Auto-Submitted": "auto-generated", "MIME-Version": "1.0",
		"Subject": "Report Domain: example.com Submitter: sender.example Report-ID: <" + text.ID + ">",
	} {
		if got := strings.Join(strings.Fields(msg.Header.Get(name)), " "); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	kind, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "tlsrpt" {
		t.Fatalf("Content-Type: %s %v", kind, params)
	}
	parts := multipart.NewReader(msg.Body, params["boundary"])
	first, err := parts.NextPart()
	if err != nil || !strings.HasPrefix(first.Header.Get("Content-Type"), "text/plain") {
		t.Fatalf("the first part: %v %v", first, err)
	}
	second, err := parts.NextRawPart()
	if err != nil || second.Header.Get("Content-Type") != "application/tlsrpt+gzip" {
		t.Fatalf("the second part: %v %v", second, err)
	}
	name := regexp.MustCompile(`^sender\.example!example\.com!946684800!946771199![0-9a-f]{8}\.json\.gz$`)
	if !name.MatchString(second.FileName()) {
		t.Errorf("the file is named %q", second.FileName())
	}
	body, err := io.ReadAll(base64.NewDecoder(base64.StdEncoding, second))
	if err != nil || !bytes.Equal(body, packed) {
		t.Errorf("the mail has another report than the post: %v", err)
	}
	if _, err := parts.NextPart(); !errors.Is(err, io.EOF) {
		t.Errorf("a third part: %v", err)
	}
}

// TestLargestReport: what the bounds of counting let through makes a report that
// can be sent.
func TestLargestReport(t *testing.T) {
	t.Parallel()
	r := newWorld(t).reports()
	var counted []notedPolicy
	for i := range MaxPolicies + 3 {
		p := notedPolicy{Type: typeSTS, Domain: strings.Repeat("d", maxName), Failure: 1 << 60, Success: 1 << 60}
		for range maxPolicyText / 256 {
			p.Lines, p.Hosts = append(p.Lines, strings.Repeat(`"`, 256)), append(p.Hosts, strings.Repeat(`"`, 256))
		}
		for k := range MaxDetails + len(results) {
			p.Details = append(p.Details, notedDetail{
				Result: results[1], Host: fmt.Sprint(k, i, strings.Repeat(`"`, maxName-10)), IP: mxAddr, From: ownAddr, Helo: strings.Repeat(`"`, maxHelo), Reason: strings.Repeat(`"`, maxReason), Count: 1 << 40,
			})
		}
		value, err := p.encode()
		if err != nil || len(value) > 64<<10 {
			t.Fatalf("%d octets: %v", len(value), err)
		}
		sum := uint64(0)
		for _, d := range p.Details {
			sum += d.Count
		}
		if sum != uint64(MaxDetails+len(results))<<40 {
			t.Errorf("details are lost: %d", sum)
		}
		counted = append(counted, p)
	}
	j := &job{day: 10957, domain: "example.com", state: &state{ID: "x@sender.example"}}
	m, err := r.build(j, r.settings.Load(), counted)
	if err != nil {
		t.Fatal(err)
	}
	if plain := unpack(t, m.packed); len(plain) > 1<<20 {
		t.Errorf("%d octets", len(plain))
	}
}
