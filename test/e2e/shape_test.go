package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// TestShape: a rule's rate holds back mail of its domain alone, over a reload
// and until the operator raises it; explain and the queue name the line.
func TestShape(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	slow := w.mx(mtatest.MXConfig{}, "slow.example", "other.example") // one site
	quick := w.mx(mtatest.MXConfig{}, "quick.example")
	d := w.daemon(`
[[shape]]
domains = ["slow.example"]
connections = 3
recipients_per_message = 2
rate = ["2/h", "1000/d"]

[[shape]]
connections = 7
`).start()
	for i := range 10 {
		d.submit("app@sender.example", []string{fmt.Sprintf("u%d@slow.example", i)}, "Subject: x\r\n\r\nx\r\n")
	}
	for i := range 10 {
		d.submit("app@sender.example", []string{fmt.Sprintf("u%d@other.example", i)}, "Subject: x\r\n\r\nx\r\n")
		d.submit("app@sender.example", []string{fmt.Sprintf("u%d@quick.example", i)}, "Subject: x\r\n\r\nx\r\n")
	}
	mtatest.Eventually(t, 30*time.Second, "mail without a rate", func() bool { return len(quick.Messages()) == 10 && len(slow.Messages()) == 11 })
	explain := d.must("explain", "x@slow.example", "--json")
	for _, want := range []string{
		`{"name":"delivery.connections","value":3,"origin":"[[shape]] 1 (line `, `{"name":"recipients_per_message","value":2,"origin":"[[shape]] 1 (line `,
		`{"name":"rate","value":2,"origin":"[[shape]] 1 (line `, `messages in an hour, counted for mailout.sender.example`,
	} {
		if !strings.Contains(explain, want) {
			t.Errorf("explain lacks %s: %s", want, explain)
		}
	}
	if out := d.must("explain", "x@quick.example", "--json"); !strings.Contains(out, `{"name":"delivery.connections","value":7,"origin":"[[shape]] 2 (line `) {
		t.Error(out)
	}
	list := d.must("queue", "list", "--json")
	if n := strings.Count(list, "takes 2 messages in an hour ([[shape]] 1 (line "); n != 9 {
		t.Errorf("%d of 9 say what holds them:\n%s", n, list)
	}
	d.replace(`rate = ["2/h", "1000/d"]`, `rate = "500/s"`)
	d.must("config", "reload")
	mtatest.Eventually(t, 30*time.Second, "the rest, when the rate is raised", func() bool { return len(slow.Messages()) == 20 })
	d.stop()
}
