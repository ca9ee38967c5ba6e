package lab

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// receiver is a real MTA of the lab and where its mail for alice arrives.
type receiver struct{ domain, dir string }

var receivers = []receiver{
	{"pf.test", "pf/pf.test/alice"},
	{"exim.test", "exim/exim.test/alice"},
	{"osmtpd.test", "osmtpd/osmtpd.test/alice"},
	{"chasquid.test", "chasquid/chasquid.test/alice"},
}

// body is one kind of content; it must arrive byte for byte.
type body struct{ name, header, text string }

var bodies = []body{
	{"plain", "", "hello\r\n"},
	{"dots", "", ".\r\n..\r\n...three\r\n.\r\n\r\n.last\r\n"},
	{"one dot", "", ".\r\n"},
	{"8-bit", "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n", "Grüße aus Köln\r\n"},
	{"long line", "", strings.Repeat("x", 990) + "\r\nend\r\n"},
	{"blank lines", "", "\r\n\r\na\r\n\r\n\r\nb\r\n"},
	{"large", "", strings.Repeat(strings.Repeat("abcdefghi ", 7)+"\r\n", 4000)},
}

func TestEveryKindOfMailToEveryReceiver(t *testing.T) {
	m := lab(t)
	for _, r := range receivers {
		for i, b := range bodies {
			t.Run(r.domain+"/"+b.name, func(t *testing.T) {
				t.Parallel()
				messageID := fmt.Sprintf("<kind%d.%s.%d@origin.test>", i, r.domain, time.Now().UnixNano())
				content := "From: Sender <sender@origin.test>\r\nTo: <alice@" + r.domain + ">\r\nSubject: " + b.name +
					"\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: " + messageID + "\r\n" + b.header + "\r\n" + b.text
				id := m.send(t, "sender@origin.test", content, "alice@"+r.domain)
				rec := m.await(t, id, "alice@"+r.domain, "delivered")
				got := mailbox(t, r.dir, messageID)
				_, gotBody, _ := bytes.Cut(got, []byte("\r\n\r\n"))
				if string(gotBody) != b.text {
					t.Errorf("the body changed: %d octets became %d\n%.300q", len(b.text), len(gotBody), gotBody)
				}
				if rec.text("helo") != mailoutName || rec.text("source") != mailoutIP {
					t.Errorf("EHLO %s from %s", rec.text("helo"), rec.text("source"))
				}
			})
		}
	}
}

func TestTLSIsUsedWhereItIsOffered(t *testing.T) {
	m := lab(t)
	for domain, encrypted := range map[string]bool{"pf.test": true, "exim.test": true, "chasquid.test": true, "osmtpd.test": false, "tlsbroken.test": false} {
		t.Run(domain, func(t *testing.T) {
			t.Parallel()
			id := m.send(t, "sender@origin.test", "Subject: tls\r\n\r\nx\r\n", "alice@"+domain)
			rec := m.await(t, id, "alice@"+domain, "delivered")
			facts, _ := rec["tls"].(map[string]any)
			if (facts["version"] != nil) != encrypted {
				t.Errorf("TLS facts %v in %v", facts, rec)
			}
		})
	}
}

// verdict is what must become of mail to an address.
type verdict struct {
	to    string
	event string // the first event after accepted
	code  int    // 0: not checked
	word  string // in the record as JSON
}

func TestEveryFault(t *testing.T) {
	m := lab(t)
	for _, v := range []verdict{
		{"alice@multi.test", "delivered", 250, "mx.pf.test"},
		{"alice@equal.test", "delivered", 250, ""},
		{"alice@nomx.test", "delivered", 250, ""},
		{"alice@mxcname.test", "delivered", 250, ""},
		{"alice@xn--bcher-kva.test", "delivered", 250, ""},
		{"alice@nullmx.test", "failed", 0, "5.1.10"},
		{"alice@noaddr.test", "failed", 0, "5.4.4"},
		{"alice@mxgone.test", "failed", 0, "5.4.4"},
		{"alice@nosuchdomain.test", "failed", 0, "5.1.2"},
		{"alice@bogus.test", "deferred", 0, "DNS gave no answer"},
		{"alice@expired.test", "deferred", 0, "SERVFAIL"},
		{"nobody@pf.test", "failed", 550, "5.1.1"},
		{"nobody@exim.test", "failed", 550, ""},
		{"nobody@osmtpd.test", "failed", 0, ""},
		{"nobody@chasquid.test", "failed", 550, ""},
		{"r-452-4.2.2-full@pf.test", "deferred", 452, "4.2.2"},
		{"r-550-5.7.1-policy@pf.test", "failed", 550, "5.7.1"},
		{"greylist3@exim.test", "deferred", 451, ""},
		{"x@ok.sink.test", "delivered", 250, ""},
		{"x@f-connect.sink.test", "failed", 0, ""},
		{"x@r-connect.sink.test", "deferred", 0, ""},
		{"x@q-connect.sink.test", "deferred", 0, ""},
		{"x@q-mail.sink.test", "deferred", 0, ""},
		{"x@q-data.sink.test", "deferred", 0, ""},
		{"x@q-dot.sink.test", "deferred", 0, "uncertain"},
		{"x@421-rcpt.sink.test", "deferred", 421, ""},
		{"x@421-dot.sink.test", "deferred", 421, ""},
		{"x@f-rcpt.sink.test", "failed", 550, "5.1.1"},
		{"x@r-rcpt.sink.test", "deferred", 450, "4.2.0"},
		{"x@f-dot.sink.test", "failed", 554, "5.7.1"},
		{"x@r-dot.sink.test", "deferred", 451, "4.3.0"},
		{"x@early-550.sink.test", "failed", 0, ""},
		{"x@slow-rcpt.sink.test", "delivered", 250, ""},
		{"x@slow-dot.sink.test", "delivered", 250, ""},
		{"x@hang-dot.sink.test", "deferred", 0, "uncertain"},
		{"x@noesmtp.sink.test", "delivered", 250, ""},
		{"x@no8bit.sink.test", "delivered", 250, ""},
		{"x@nopipe.sink.test", "delivered", 250, ""},
		{"x@pix.sink.test", "delivered", 250, ""},
		{"x@f-ehlo.sink.test", "", 0, ""},
	} {
		t.Run(v.to, func(t *testing.T) {
			t.Parallel()
			id := m.send(t, "sender@origin.test", "Subject: fault\r\n\r\ncontent\r\n", v.to)
			rec := m.firstOutcome(t, id)
			if v.event != "" && rec.text("event") != v.event {
				t.Fatalf("%s, want %s: %v", rec.text("event"), v.event, rec)
			}
			if v.code != 0 && rec["code"] != float64(v.code) {
				t.Errorf("code %v, want %d: %v", rec["code"], v.code, rec)
			}
			if v.word != "" && !strings.Contains(rec.String(), v.word) {
				t.Errorf("%q is not in %v", v.word, rec)
			}
			if rec.text("event") == "deferred" && rec.text("next") == "" {
				t.Errorf("no next try in %v", rec)
			}
		})
	}
}

// firstOutcome gives the record that follows the acceptance.
func (m *mailout) firstOutcome(t *testing.T, id string) record {
	t.Helper()
	var all []record
	mtatest.Eventually(t, 60*time.Second, "an outcome of "+id, func() bool {
		all = m.trace(t, id)
		return len(all) > 1
	}, func() string { return fmt.Sprintf("journal: %v", all) })
	return all[1]
}

func TestGreylistedMailArrivesLater(t *testing.T) {
	m := lab(t)
	id := m.send(t, "sender@origin.test", "Subject: grey\r\nMessage-ID: <grey@origin.test>\r\n\r\nx\r\n", "greylist5@exim.test")
	m.await(t, id, "greylist5@exim.test", "deferred")
	m.await(t, id, "greylist5@exim.test", "delivered")
}

func TestOneMessageToAllReceiversEndsOnceForEach(t *testing.T) {
	m := lab(t)
	var to []string
	for _, r := range receivers {
		to = append(to, "bob@"+r.domain, "nobody@"+r.domain)
	}
	id := m.send(t, "sender@origin.test", "Subject: all\r\n\r\nx\r\n", to...)
	for _, r := range receivers {
		m.await(t, id, "bob@"+r.domain, "delivered")
		m.await(t, id, "nobody@"+r.domain, "failed")
	}
	finals := map[string]int{}
	for _, rec := range m.trace(t, id) {
		if e := rec.text("event"); e == "delivered" || e == "failed" {
			finals[rec.text("recipient")]++
		}
	}
	for _, addr := range to {
		if finals[addr] != 1 {
			t.Errorf("%s has %d final records", addr, finals[addr])
		}
	}
}
