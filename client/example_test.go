package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"mailout/client"
)

// daemon stands for mailout: it takes everything and tells one event.
func daemon() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/messages":
			var m struct {
				To []string `json:"to"`
			}
			body, _ := io.ReadAll(r.Body)
			if json.Unmarshal(body, &m) != nil || len(m.To) == 0 {
				w.WriteHeader(http.StatusUnprocessableEntity)
				fmt.Fprint(w, `{"detail":"no recipients","field":"to"}`)
				return
			}
			w.WriteHeader(http.StatusAccepted)
			fmt.Fprintf(w, `{"id":"01K4ANWB3D0000000000000000","recipients":[{"address":%q,"state":"queued"}]}`, m.To[0])
		case "/v1/messages/batch":
			w.WriteHeader(http.StatusAccepted)
			fmt.Fprint(w, `{"accepted":2,"refused":0,"messages":[{"id":"01K4ANWB3D0000000000000001","recipients":[{"address":"ann@example.net","state":"queued"}]},`+
				`{"id":"01K4ANWB3D0000000000000002","recipients":[{"address":"bob@example.net","state":"queued"}]}]}`)
		case "/v1/trace":
			fmt.Fprintln(w, `{"time":"2026-03-01T12:00:00.000Z","event":"accepted","recipient":"ann@example.net"}`)
			fmt.Fprintln(w, `{"time":"2026-03-01T12:00:01.500Z","event":"delivered","recipient":"ann@example.net","host":"mx.example.net","reply":"250 2.0.0 OK"}`)
		case "/v1/events":
			fmt.Fprint(w, "id: 42\ndata: {\"id\":\"e1\",\"type\":\"message.delivered\",\"data\":{\"recipient\":\"ann@example.net\"}}\n\n")
		}
	}))
}

func ExampleClient_Send() {
	d := daemon()
	defer d.Close()
	c, err := client.New(d.URL, "token")
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	receipt, err := c.Send(ctx, &client.Message{
		From:    client.Mailbox("Shop, Inc.", "shop@example.com"),
		To:      []string{"ann@example.net"},
		Subject: "Your order",
		HTML:    "<p>It is on its way.</p>",
		Attachments: []client.Attachment{
			{Name: "invoice.pdf", Content: []byte("%PDF-1.7 …")},
		},
		Tags: []string{"orders"},
		Key:  "order-4711", // so that this may be repeated
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(receipt.ID, receipt.Recipients[0].Address, receipt.Recipients[0].State)
	// Output: 01K4ANWB3D0000000000000000 ann@example.net queued
}

func ExampleError() {
	d := daemon()
	defer d.Close()
	c, err := client.New(d.URL, "token")
	if err != nil {
		panic(err)
	}
	_, err = c.Send(context.Background(), &client.Message{From: "shop@example.com", Text: "To nobody"})
	var refused *client.Error
	if errors.As(err, &refused) && !refused.Temporary() {
		fmt.Println(refused.Field, "-", refused.Detail)
	}
	// Output: to - no recipients
}

func ExampleClient_Status() {
	d := daemon()
	defer d.Close()
	c, err := client.New(d.URL, "token")
	if err != nil {
		panic(err)
	}
	status, err := c.Status(context.Background(), "01K4ANWB3D0000000000000000")
	if err != nil {
		panic(err)
	}
	for _, r := range status.Recipients {
		fmt.Println(r.Address, r.State, r.Last.Host, r.Last.Reply)
	}
	fmt.Println(status.Final())
	// Output:
	// ann@example.net delivered mx.example.net 250 2.0.0 OK
	// true
}

func ExampleClient_Events() {
	d := daemon()
	defer d.Close()
	c, err := client.New(d.URL, "token")
	if err != nil {
		panic(err)
	}
	var last string // kept where it survives, so that nothing is missed
	for event, err := range c.Events(context.Background(), client.EventsOptions{After: last}) {
		if err != nil {
			fmt.Println(err)
			break
		}
		fmt.Println(event.Type, event.Data.Recipient)
		last = event.Cursor
		break
	}
	fmt.Println(last)
	// Output:
	// message.delivered ann@example.net
	// 42
}

func ExampleClient_SendMailing() {
	d := daemon()
	defer d.Close()
	c, err := client.New(d.URL, "token")
	if err != nil {
		panic(err)
	}
	outcomes, err := c.SendMailing(context.Background(), &client.Mailing{
		Message: client.Message{From: "shop@example.com", Subject: "News for {{name}}", Text: "Dear {{name}}, …\n", Key: "news-2026-03"},
		Recipients: []client.MailingRecipient{
			{To: "ann@example.net", Substitutions: map[string]string{"name": "Ann"}},
			{To: "bob@example.net", Substitutions: map[string]string{"name": "Bob"}},
		},
	})
	if err != nil {
		panic(err) // nothing was taken
	}
	for _, o := range outcomes {
		if o.Err != nil {
			fmt.Println("refused:", o.Err)
			continue
		}
		fmt.Println(o.Recipients[0].Address, o.Recipients[0].State)
	}
	// Output:
	// ann@example.net queued
	// bob@example.net queued
}
