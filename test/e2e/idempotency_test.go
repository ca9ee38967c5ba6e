package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// keyed is a request with an Idempotency-Key, to recipients of its own.
type keyed struct {
	key, kind, path, body string
	recipients            []string
}

func newKeyed(round, n int) keyed {
	k := keyed{key: fmt.Sprintf("r%d-%d", round, n), path: "/v1/messages", kind: "application/json"}
	to := k.key + "@idem.example"
	k.recipients = []string{to}
	switch n % 3 {
	case 0:
		k.body = fmt.Sprintf(`{"from":"app@sender.example","to":%q,"subject":"x","text":"x"}`, to)
	case 1:
		k.kind, k.path = "message/rfc822", k.path+"?from=app@sender.example&to="+to
		k.body = "Subject: x\r\n\r\n" + strings.Repeat("x\r\n", 50)
	case 2:
		k.path += "/batch"
		k.recipients = nil
		var list []string
		for i := range 5 {
			k.recipients = append(k.recipients, fmt.Sprintf("p%d-%s", i, to))
			list = append(list, fmt.Sprintf(`{"to":%q}`, k.recipients[i]))
		}
		k.body = `{"from":"app@sender.example","subject":"x","text":"x","recipients":[` + strings.Join(list, ",") + `]}`
	}
	return k
}

func (k *keyed) text() string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: mailout\r\nContent-Type: %s\r\nIdempotency-Key: %s\r\nContent-Length: %d\r\n\r\n%s",
		k.path, k.kind, k.key, len(k.body), k.body)
}

// post sends the request. Without answer the connection stays open, and nothing
// of it is read: whether the daemon got as far as the answer, nobody knows.
func (k *keyed) post(d *daemon, answer bool) (status int, replayed bool, ids []string, err error) {
	conn, err := net.Dial("unix", filepath.Join(d.dir, "spool", "mailout.sock"))
	if err != nil {
		return 0, false, nil, err
	}
	if !answer {
		d.t.Cleanup(func() { conn.Close() })
		_, err = conn.Write([]byte(k.text()))
		return 0, false, nil, err
	}
	defer conn.Close()
	if _, err = conn.Write([]byte(k.text())); err != nil {
		return 0, false, nil, err
	}
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, false, nil, err
	}
	defer r.Body.Close()
	var out struct {
		ID       string
		Messages []struct{ ID string }
	}
	if err = json.NewDecoder(r.Body).Decode(&out); err != nil {
		return 0, false, nil, err
	}
	for _, m := range out.Messages {
		ids = append(ids, m.ID)
	}
	if out.ID != "" {
		ids = append(ids, out.ID)
	}
	return r.StatusCode, r.Header.Get("Idempotency-Replayed") == "true", ids, nil
}

// TestIdempotencyOverKillNine: requests whose answer the client never saw, for
// the daemon was killed before or after the commit, are sent again with their
// key. Each recipient gets one message, and answers that were given stay true.
func TestIdempotencyOverKillNine(t *testing.T) {
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", *seed)
	random := rand.New(rand.NewPCG(*seed, 2))
	d := newWorld(t).daemon("").start()
	d.must("queue", "hold", "--destination", "idem.example", "--yes")
	const blind, seen = 30, 6
	var all []keyed
	replayed, fresh, answered := 0, 0, 0
	rounds := 0
	// A slow machine may need more kills until one falls where it is to.
	for ; rounds < *kills || (replayed <= answered || fresh == 0) && rounds < 5**kills; rounds++ {
		round := rounds
		var requests []keyed
		for n := range blind + seen {
			requests = append(requests, newKeyed(round, n))
		}
		var mu sync.Mutex
		told := map[string][]string{} // what was answered before the kill
		var clients sync.WaitGroup
		for n, k := range requests {
			clients.Go(func() {
				status, _, ids, err := k.post(d, n >= blind)
				if err == nil && status == http.StatusAccepted {
					mu.Lock()
					defer mu.Unlock()
					told[k.key] = ids
				}
			})
		}
		pause(t.Context(), time.Duration(random.IntN(60))*time.Millisecond)
		d.kill()
		clients.Wait()
		d.start()
		answered += len(told)
		for _, k := range requests {
			status, again, ids, err := k.post(d, true)
			if err != nil || status != http.StatusAccepted || len(ids) != len(k.recipients) {
				t.Fatalf("%s again: %d %v %v", k.key, status, ids, err)
			}
			if first := told[k.key]; first != nil && (!again || fmt.Sprint(first) != fmt.Sprint(ids)) {
				t.Errorf("%s was answered %v, and then %v", k.key, first, ids)
			}
			if again {
				replayed++
			} else {
				fresh++
			}
		}
		all = append(all, requests...)
	}
	d.kill()
	d.start()
	have := map[string]int{}
	for line := range strings.Lines(d.must("queue", "list", "--json")) {
		var one struct{ Recipients []struct{ Address string } }
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatal(err)
		}
		for _, r := range one.Recipients {
			have[r.Address]++
		}
	}
	n, lost, doubled := 0, 0, 0
	for _, k := range all {
		for _, r := range k.recipients {
			n++
			switch {
			case have[r] == 0:
				lost++
			case have[r] > 1:
				doubled++
			}
		}
	}
	fmt.Printf("result: %s: kill -9 × %d: accepted=%d lost=%d doubled=%d (%d requests answered before the kill, %d taken before it, %d after; seed %d)\n",
		t.Name(), rounds, n, lost, doubled, answered, replayed, fresh, *seed)
	if lost+doubled != 0 {
		t.Errorf("lost=%d doubled=%d of %d", lost, doubled, n)
	}
	if replayed <= answered || fresh == 0 {
		t.Errorf("no kill fell between commit and answer (%d), or none before the commit (%d): the test proves nothing", replayed-answered, fresh)
	}
	d.stop()
}
