package returns

import (
	"context"
	"crypto/rand"
	"strings"

	"mailout/internal/dsn"
	"mailout/internal/mta"
	"mailout/internal/submit"
)

// draft collects the head of one message that came back. Not safe for concurrent
// use.
type draft struct {
	office  *Office
	request *submit.Request
	head    []byte
	failed  error
	ended   bool
}

// Write implements io.Writer. What is beyond the bound is dropped: the report
// stands before what it returns.
func (d *draft) Write(p []byte) (int, error) {
	if d.failed != nil {
		return 0, d.failed
	}
	keep := p[:min(len(p), maxHead-len(d.head))]
	if len(d.head)+len(keep) > cap(d.head) {
		if !d.grow(len(d.head) + len(keep)) {
			d.failed = &submit.Refusal{Reply: refusals.later}
			d.office.counts.later.Add(1)
			d.Abort()
			return 0, d.failed
		}
	}
	d.head = append(d.head, keep...)
	return len(p), nil
}

// grow makes room, within what all drafts may hold.
func (d *draft) grow(need int) bool {
	size := max(16<<10, 2*cap(d.head))
	for size < need {
		size *= 2
	}
	size = min(size, maxHead)
	more := int64(size - cap(d.head))
	if d.office.memory.Add(more) > maxMemory {
		d.office.memory.Add(-more)
		return false
	}
	d.head = append(make([]byte, 0, size), d.head...)
	return true
}

// Abort implements submit.Draft.
func (d *draft) Abort() {
	if !d.ended {
		d.ended = true
		d.office.memory.Add(-int64(cap(d.head)))
		d.head = nil
	}
}

// Commit implements submit.Draft: it returns when what follows from the message
// is on stable storage. A message that comes again because its answer was lost
// finds it done.
func (d *draft) Commit(ctx context.Context) (mta.ID, error) {
	defer d.Abort()
	if d.failed != nil {
		return mta.ID{}, d.failed
	}
	back, err := d.office.open(ctx, d.head)
	if err != nil {
		return mta.ID{}, &submit.Refusal{Reply: refusals.later, Err: err}
	}
	for _, address := range d.addresses() {
		if err := d.office.take(context.WithoutCancel(ctx), address, back); err != nil {
			d.office.counts.trouble.Add(1)
			return mta.ID{}, &submit.Refusal{Reply: refusals.later, Err: err}
		}
	}
	var bits [10]byte
	if _, err := rand.Read(bits[:]); err != nil {
		return mta.ID{}, err
	}
	return mta.NewID(d.office.now(), bits), nil
}

// addresses are those that the message came to: each once, since case makes no
// other address here.
func (d *draft) addresses() []string {
	out := make([]string, 0, len(d.request.Recipients))
	seen := make(map[string]bool, len(d.request.Recipients))
	for i := range d.request.Recipients {
		if a := strings.ToLower(d.request.Recipients[i].Address); !seen[a] {
			seen[a] = true
			out = append(out, a)
		}
	}
	return out
}

// open reads a message that came back, a few at a time: reading one takes many
// times its memory, and a processor for as long as its writer likes to make it.
func (f *Office) open(ctx context.Context, head []byte) (*dsn.Returned, error) {
	select {
	case f.readers <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-f.readers }()
	return dsn.ReadReturn(head), nil
}
