package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailout/client"
)

// connect makes a client of package client, which tries for as long as a
// restart may take.
func (s *shop) connect(base string) *client.Client {
	s.t.Helper()
	c, err := client.New(base, s.token)
	if err != nil {
		s.t.Fatal(err)
	}
	c.Tries, c.Wait = 20, 100*time.Millisecond
	return c
}

// TestClientPackage: the public Go package against the binary, over TCP and
// over the socket.
func TestClientPackage(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := s.connect(s.base)
	letter := &client.Message{
		From: client.Mailbox("Läden & Söhne", "shop@sender.example"), To: []string{"ann@example.net", client.Mailbox("Bob, the Builder", "bob@example.net")},
		Cc: []string{"carl@example.net"}, Bcc: []string{"hidden@example.net"}, ReplyTo: []string{"help@sender.example"},
		Subject: "client: Grüße 👋", Text: "Grüße\n", HTML: `<p>Grüße <img src="cid:logo"></p>`, Headers: []client.Header{{Name: "X-Entity-Ref-ID", Value: "4711"}},
		Attachments: []client.Attachment{
			{Name: "Übersicht.txt", Content: []byte("hello")}, {Name: "logo.png", Content: []byte{1, 2, 255}, ContentID: "logo", Inline: true},
		},
		Stream: "orders", Expire: 2 * time.Hour, Tags: []string{"welcome"}, Metadata: map[string]string{"order": "4711"}, Key: "order-4711",
	}
	receipt, err := c.Send(ctx, letter)
	if err != nil || len(receipt.Recipients) != 4 || receipt.Recipients[0].State != client.Queued {
		t.Fatalf("%+v, %v", receipt, err)
	}
	raw, err := s.connect("unix:"+filepath.Join(s.dir, "spool", "mailout.sock")).Send(ctx, &client.Message{
		From: "shop@sender.example", To: []string{"ann@example.net"}, Raw: []byte("Subject: client: raw\n\nas it is\n"),
	})
	if err != nil {
		t.Fatal(err)
	}
	all := s.arrived(2)
	s.theLetter(all["client: Grüße 👋"][0])
	if m := all["client: raw"]; len(m) != 1 || !strings.HasSuffix(string(m[0].Data), "\r\n\r\nas it is\r\n") {
		t.Errorf("%v", all)
	}
	s.waitEvent(receipt.ID, "delivered")
	status, err := c.Status(ctx, receipt.ID)
	if err != nil || len(status.Recipients) != 4 || status.Records[0].Stream != "orders" || status.Records[0].Metadata["order"] != "4711" || status.Accepted.IsZero() {
		t.Errorf("%+v, %v", status, err)
	}
	// What the socket took is not this user's.
	var refused *client.Error
	if _, err := c.Status(ctx, raw.ID); !errors.As(err, &refused) || refused.Status != 404 {
		t.Errorf("the status of another's message: %v", err)
	}
	_, err = c.Send(ctx, &client.Message{From: "eve@other.example", To: []string{"ann@example.net"}, Text: "x"})
	if !errors.As(err, &refused) || refused.Status != 403 || refused.Field != "from" || refused.Temporary() {
		t.Errorf("%v", err)
	}
	_, err = c.Send(ctx, &client.Message{From: "shop@sender.example", To: []string{"ann@example.net", "nobody"}, Text: "x"})
	if !errors.As(err, &refused) || refused.Status != 422 || refused.Field != "to[1]" {
		t.Errorf("%v", err)
	}
	out, err := c.SendMailing(ctx, &client.Mailing{
		Message:       client.Message{From: "shop@sender.example", Subject: "client: Hi {{name}}", HTML: "<p>{{name}} of {{shop}}</p>"},
		Recipients:    []client.MailingRecipient{{To: "ann@example.net", Substitutions: map[string]string{"name": "Ann & Co"}}, {To: "bob@example.net", Substitutions: map[string]string{"name": "Bob"}}},
		Substitutions: map[string]string{"shop": "Widget"},
	})
	if err != nil || len(out) != 2 || out[0].Err != nil || len(out[1].ID) != 26 {
		t.Errorf("%+v, %v", out, err)
	}
	if out, err = c.SendAll(ctx, "", &client.Message{From: "shop@sender.example", To: []string{"ann@example.net"}, Subject: "client: all", Text: "x"}); err != nil || len(out) != 1 || out[0].Err != nil {
		t.Errorf("%+v, %v", out, err)
	}
	all = s.arrived(5)
	if m := all["client: Hi Ann & Co"]; len(m) != 1 || !strings.Contains(string(m[0].Data), "<p>Ann &amp; Co of Widget</p>") || len(all["client: Hi Bob"])+len(all["client: all"]) != 2 {
		t.Errorf("%v", all)
	}
	stranger, err := client.New(s.base, "wrong")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.Send(ctx, letter); !errors.As(err, &refused) || refused.Status != 401 {
		t.Errorf("%v", err)
	}
}

// TestClientAcrossACrash: the daemon is killed while a program sends. Each
// message that Send gave a receipt for is there, once, and the events go on
// behind the last one.
func TestClientAcrossACrash(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c := s.connect(s.base)
	const messages = 60
	sent := make(chan error, 1)
	go func() {
		for i := range messages {
			m := &client.Message{From: "shop@sender.example", To: []string{"ann@example.net"}, Subject: fmt.Sprintf("crash %d", i), Text: "x", Key: fmt.Sprintf("crash-%d", i)}
			if i == messages/2 {
				s.kill()
				if err := s.tryStart(); err != nil {
					sent <- err
					return
				}
			}
			first, err := c.Send(ctx, m)
			if err == nil && i%7 == 0 { // the program does not know, and asks again
				var again *client.Receipt
				if again, err = c.Send(ctx, m); err == nil && again.ID != first.ID {
					err = fmt.Errorf("%s was taken twice: %s and %s", m.Key, first.ID, again.ID)
				}
			}
			if err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	accepted := map[string]int{}
	delivered := 0
	for e, err := range c.Events(ctx, client.EventsOptions{After: "0"}) {
		if err != nil {
			t.Fatalf("after %d: %v", delivered, err)
		}
		switch e.Type {
		case "message.accepted":
			accepted[e.ID]++
		case "message.delivered":
			delivered++
		}
		if delivered >= messages {
			break
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if len(accepted) != messages {
		t.Errorf("%d messages were accepted, not %d", len(accepted), messages)
	}
	subjects := s.arrived(messages)
	for i := range messages {
		if n := len(subjects[fmt.Sprintf("crash %d", i)]); n == 0 || n > 1 && i != messages/2-1 && i != messages/2-2 {
			t.Errorf("message %d arrived %d times", i, n)
		}
	}
}

// TestCompose: the command, from its options to the inbox and the journal.
func TestCompose(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	file := func(name, content string) string {
		path := filepath.Join(s.dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	id := strings.TrimSpace(s.must("compose", "--from", "Läden & Söhne <shop@sender.example>", "-t", "ann@example.net, \"Bob, the Builder\" <bob@example.net>",
		"-c", "carl@example.net", "-b", "hidden@example.net", "--reply-to", "help@sender.example", "-s", "compose: Grüße 👋",
		"--text", "@"+file("text", "Grüße\n"), "--html", `<p>Grüße <img src="cid:logo"></p>`, "--attach", file("u.txt", "hello")+";name=Übersicht.txt",
		"--inline", file("logo.png", "\x01\x02\xff")+";cid=logo", "--header", "X-Entity-Ref-ID: 4711", "--stream", "orders", "--expire", "2h", "--tag", "welcome", "--meta", "order=4711"))
	if len(id) != 26 {
		t.Fatalf("printed %q", id)
	}
	s.theLetter(s.arrived(1)["compose: Grüße 👋"][0])
	if r := s.accepted(id); r.text("stream") != "orders" || fmt.Sprint(r["tags"]) != "[welcome]" || fmt.Sprint(r["metadata"]) != "map[order:4711]" {
		t.Errorf("the record is %v", r)
	}
	waiting := strings.TrimSpace(s.must("compose", "-f", "shop@sender.example", "-t", "ann@example.net", "-s", "compose: never before tomorrow", "--text", "x", "--at", "24h"))
	if out := s.must("queue", "show", waiting, "--json"); !strings.Contains(out, `"next":"`) {
		t.Errorf("%s", out)
	}
	if _, stderr, status := s.run("compose", "-f", "shop@sender.example", "-t", "ann@localhost", "--text", "x"); status != 67 || !strings.Contains(stderr, "localhost") {
		t.Errorf("status %d: %s", status, stderr)
	}
	if _, stderr, status := s.run("compose", "-f", "shop@sender.example", "-t", "ann@example.net", "--text", "x", "--at", "40d"); status != 65 {
		t.Errorf("status %d: %s", status, stderr)
	}
}
