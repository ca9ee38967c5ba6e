package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// signer is a daemon with both keys of origin.test, and a door that repairs line
// ends.
const signerDoor = "127.0.1.8:2531"

func startSigner(t *testing.T) *mailout {
	t.Helper()
	needLab(t)
	m, err := startMailout("dkim", "127.0.1.8:2530", fmt.Sprintf(`
[[listen]]
address = %q
trusted = ["127.0.0.0/8"]
bare_lf = "repair"

[[dkim]]
domain = "origin.test"
selector = "rsa"
key = %q

[[dkim]]
domain = "origin.test"
selector = "ed"
key = %q
`, signerDoor, state("dkim", "rsa.private"), state("dkim", "ed.private")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("serve's log:\n%s", m.process.Log(40))
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := m.process.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return m
}

// oddCarrier says why a message of the corpus does not get through an MTA, or not
// with its signatures whole; it must be the MTA's doing.
type oddCarrier struct{ mta, name, why string }

var oddCarriers = []oddCarrier{
	{"osmtpd.test", "a line of 70000", "it refuses lines of 64 KB and more (500 5.0.0 Line too long)"},
}

// oddVerifiers are the same for those who verify.
var oddVerifiers = []oddCarrier{
	{"Exim", "a line of 70000", "its verifier gives up at lines of 16 KB (LONG_LINE)"},
	{"Exim", "2,000 fields above", "its verifier looks at the first 512 fields"},
}

func excused(mta, name string) string {
	for _, e := range slices.Concat(oddCarriers, oddVerifiers) {
		if e.mta == mta && e.name == name {
			return e.why
		}
	}
	return ""
}

// unknownToOlder is what a Mail::DKIM says that has no Ed25519 yet (Debian 12). It
// goes by the other signature then, as receivers do that are as old.
const unknownToOlder = "invalid (unsupported algorithm ed25519-sha256)"

// TestSignaturesSurviveEveryMTA: each odd message that mailout signs with RSA and
// Ed25519 verifies with dkimpy, Mail::DKIM, opendkim and Exim, after it passed
// through Postfix, Exim, OpenSMTPD and chasquid.
func TestSignaturesSurviveEveryMTA(t *testing.T) {
	m := startSigner(t)
	corpus := append(mtatest.OddMessages(), mtatest.OddLong()...)
	sendOdd(t, m, corpus)
	checks := state("dkim-check")
	if err := os.MkdirAll(checks, 0o755); err != nil {
		t.Fatal(err)
	}
	whole := map[string][]byte{} // by "MTA.number"
	for _, r := range receivers {
		arrived := collect(t, r, corpus)
		for i, o := range corpus {
			if arrived[o.ID()] == nil {
				continue
			}
			name := fmt.Sprintf("%s.%d", r.domain, i)
			whole[name] = arrived[o.ID()]
			for algorithm, text := range apart(whole[name]) {
				if err := os.WriteFile(filepath.Join(checks, name+"."+algorithm), text, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	named := func(name string) string {
		var mta, rest string
		var i int
		parts := strings.Split(name, ".")
		mta, rest = parts[0]+"."+parts[1], strings.Join(parts[3:], ".")
		fmt.Sscan(parts[2], &i)
		return mta + "; " + corpus[i].Name + "; " + rest
	}
	var all sync.WaitGroup
	for verifier, command := range map[string][]string{
		"dkimpy":     {"/usr/bin/python3", "verify-dkimpy.py"},
		"Mail::DKIM": {"/usr/bin/perl", "verify-maildkim.pl"},
		"opendkim":   {"/bin/bash", "verify-opendkim.sh"},
	} {
		all.Go(func() {
			out, err := exec.Command(command[0], filepath.Join(os.Getenv("LAB_DIR"), "bin", command[1]), checks).CombinedOutput()
			verdicts, older := 0, 0
			for line := range strings.Lines(string(out)) {
				name, verdict, _ := strings.Cut(strings.TrimSpace(line), " ")
				if verdict == unknownToOlder && strings.HasSuffix(name, ".ed") {
					older++
				} else if verdict != "ok" {
					t.Errorf("%s: %s: %s", verifier, named(name), verdict)
				}
				verdicts++
			}
			if err != nil || verdicts != 3*len(whole) || older != 0 && older != len(whole) {
				t.Errorf("%s gave %d verdicts of %d, %v\n%.2000s", verifier, verdicts, 3*len(whole), err, out)
			}
			if older > 0 {
				t.Logf("%s is too old for Ed25519", verifier)
			}
		})
	}
	all.Go(func() { verifyByExim(t, whole, named) })
	all.Wait()
	t.Logf("%d messages, %d deliveries, %d signatures, by four verifiers", len(corpus), len(whole), 2*len(whole))
}

// sendOdd hands every message over, each for a mailbox at every receiver, and waits
// until all have arrived.
func sendOdd(t *testing.T, m *mailout, corpus []mtatest.OddMessage) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	c, err := mtatest.Dial(ctx, signerDoor)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Hello("client.origin.test"); err != nil {
		t.Fatal(err)
	}
	ids := make([]string, len(corpus))
	for i, o := range corpus {
		var to []string
		for _, r := range receivers {
			if excused(r.domain, o.Name) == "" {
				to = append(to, "alice@"+r.domain)
			}
		}
		send, text := c.Send, o.Wire()
		if o.Raw {
			text = o.Text
			send = func(from string, to []string, data []byte) (*mtatest.Outcome, error) {
				return c.SendChunked(from, to, data, 1<<20)
			}
		}
		got, err := send("odd@origin.test BODY=8BITMIME", to, []byte(text))
		if err != nil || !got.Accepted() {
			t.Fatalf("%s: %+v, %v", o.Name, got, err)
		}
		ids[i] = got.ID()
	}
	for i := range corpus {
		settled(t, m, ids[i], corpus[i].Name)
	}
}

// settled waits until every recipient of a message has its final state, and
// reports those that it was not delivered to.
func settled(t *testing.T, m *mailout, id, name string) {
	t.Helper()
	final := map[string]string{}
	all := 0
	mtatest.Eventually(t, 2*time.Minute, name+" at every receiver", func() bool {
		all = 0
		for _, r := range m.trace(t, id) {
			switch r.text("event") {
			case "accepted":
				all++
			case "delivered", "failed":
				final[r.text("recipient")] = r.text("event") + " " + r.text("reply") + r.text("reason")
			}
		}
		return all > 0 && len(final) == all
	}, func() string { return fmt.Sprint(final) })
	for recipient, what := range final {
		if !strings.HasPrefix(what, "delivered") {
			t.Errorf("%s: %s: %s", name, recipient, what)
		}
	}
}

// collect waits for the messages of the corpus in alice's mailbox at a receiver,
// and gives them by Message-ID with CRLF line ends.
func collect(t *testing.T, r receiver, corpus []mtatest.OddMessage) map[string][]byte {
	t.Helper()
	missing, read, out := map[string]bool{}, map[string]bool{}, map[string][]byte{}
	for _, o := range corpus {
		if excused(r.domain, o.Name) == "" {
			missing[o.ID()] = true
		}
	}
	mtatest.Eventually(t, time.Minute, "the odd messages at "+r.domain, func() bool {
		files, err := filepath.Glob(state("mail", r.dir, "new", "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if read[f] {
				continue
			}
			b, err := os.ReadFile(f)
			if err != nil {
				continue // moved
			}
			read[f] = true
			_, id, _ := bytes.Cut(b, []byte("@odd.origin.test>"))
			id = b[:len(b)-len(id)]
			id = id[max(0, bytes.LastIndexByte(id, '<')):]
			if missing[string(id)] {
				delete(missing, string(id))
				out[string(id)] = bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
			}
		}
		return len(missing) == 0
	}, func() string { return fmt.Sprintf("missing: %v", missing) })
	return out
}

// apart gives a message with one of our signatures, and with both; without those
// of others.
func apart(message []byte) map[string][]byte {
	head, body, _ := bytes.Cut(message, []byte("\r\n\r\n"))
	out := map[string][]byte{"rsa": nil, "ed": nil, "both": nil}
	keep := map[string]bool{}
	for line := range bytes.Lines(append(head, '\r', '\n')) {
		if line[0] != ' ' && line[0] != '\t' {
			sig := bytes.HasPrefix(line, []byte("DKIM-Signature:"))
			ours := bytes.Contains(line, []byte("d=origin.test;"))
			keep["rsa"] = !sig || ours && bytes.Contains(line, []byte("a=rsa-sha256;"))
			keep["ed"] = !sig || ours && bytes.Contains(line, []byte("a=ed25519-sha256;"))
			keep["both"] = !sig || ours
		}
		for a := range out {
			if keep[a] {
				out[a] = append(out[a], line...)
			}
		}
	}
	for a := range out {
		out[a] = append(append(out[a], '\r', '\n'), body...)
	}
	return out
}

// verifyByExim sends what arrived on to Exim, whose log says what it finds of each
// signature.
func verifyByExim(t *testing.T, whole map[string][]byte, named func(string) string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	ids := map[string]string{}
	for name, text := range whole {
		c, err := mtatest.Dial(ctx, "127.0.1.2:25")
		if err != nil {
			t.Error(err)
			return
		}
		if err := c.Hello("out.origin.test"); err != nil {
			t.Error(err)
			return
		}
		got, err := c.Send("odd@origin.test BODY=8BITMIME", []string{"user1@exim.test"}, text)
		if err != nil || !got.Accepted() {
			t.Errorf("Exim: %s: %+v, %v", named(name), got, err)
			continue
		}
		_, ids[name], _ = strings.Cut(got.Final.String(), "id=")
		c.Quit()
	}
	log, err := os.ReadFile(state("log", "exim", "mainlog"))
	if err != nil {
		t.Error(err)
		return
	}
	found := map[string]string{} // by Exim's ID
	for line := range strings.Lines(string(log)) {
		if parts := strings.SplitN(line, " ", 4); len(parts) == 4 && strings.HasPrefix(parts[3], "DKIM:") {
			found[parts[2]] += parts[3]
		}
	}
	for name, id := range ids {
		succeeded := strings.Count(found[id], "[verification succeeded]") == 2
		if excuse := excused("Exim", strings.Split(named(name), "; ")[1]); succeeded != (excuse == "") {
			t.Errorf("Exim: %s: %s", named(name), strings.TrimSpace(found[id]))
		}
	}
}
