package events

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"time"

	"mailout/internal/mta"
)

// Trial is the end of one request that was sent to try a webhook.
type Trial struct {
	OK     bool
	Status int    // 0: there was no answer
	Answer string // status and first line of the answer, or why there was none
	Took   time.Duration
}

// Try sends an event of the type "server.test", which tells of nothing, to a
// webhook: signed, and in the shape of its batches. It changes nothing else, and
// needs no Hub; of the Options it uses Dial and Version.
func Try(ctx context.Context, o Options, s Settings, conf Webhook) (*Trial, error) {
	now := time.Now()
	type data struct {
		Time      string `json:"time"`
		Event     string `json:"event"`
		ID        string `json:"id"`
		Sender    string `json:"sender"`
		Recipient string `json:"recipient"`
		Reason    string `json:"reason"`
	}
	e := struct {
		ID        string `json:"id"`
		Type      string `json:"type"`
		Timestamp string `json:"timestamp"`
		Data      data   `json:"data"`
	}{
		ID: "test-" + rand.Text(), Type: "server.test", Timestamp: mta.FormatTime(now),
		Data: data{mta.FormatTime(now), "test", mta.ID{}.String(), "", "test", "an operator tries the webhook " + conf.Name},
	}
	body, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	if conf.Batch > 1 {
		body = append(append([]byte{'['}, body...), ']')
	}
	w := &webhook{conf: conf, agent: "mailout/" + o.Version, client: newClient(&o, &s, &conf)}
	defer w.client.CloseIdleConnections()
	a := w.post(ctx, &batch{id: e.ID, body: body, count: 1})
	return &Trial{OK: a.ok(), Status: a.status, Answer: a.words(), Took: time.Since(now)}, nil
}
