package transport

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// sink takes everything as fast as it can, like Postfix's smtp-sink: an answer
// a write when the client waits for it.
func sink(l net.Listener, ehlo string) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			br, bw := bufio.NewReaderSize(conn, 16<<10), bufio.NewWriter(conn)
			_, _ = bw.WriteString("220 sink\r\n")
			for {
				if br.Buffered() == 0 {
					_ = bw.Flush()
				}
				line, err := br.ReadSlice('\n')
				if err != nil {
					return
				}
				switch {
				case bytes.HasPrefix(line, []byte("EHLO")):
					_, _ = bw.WriteString(ehlo)
				case bytes.HasPrefix(line, []byte("DATA")):
					_, _ = bw.WriteString("354 go\r\n")
					_ = bw.Flush()
					for !bytes.Equal(line, []byte(".\r\n")) {
						if line, err = br.ReadSlice('\n'); err != nil {
							return
						}
					}
					_, _ = bw.WriteString("250 2.0.0 ok\r\n")
				case bytes.HasPrefix(line, []byte("BDAT")):
					_, _ = io.CopyN(io.Discard, br, 4096)
					_, _ = bw.WriteString("250 2.0.0 ok\r\n")
				default:
					_, _ = bw.WriteString("250 2.1.0 ok\r\n")
				}
			}
		}()
	}
}

// bytesStore gives the same content for every message.
type bytesStore []byte

func (s bytesStore) Open(context.Context, mta.ID) (spool.Content, error) { return s, nil }
func (s bytesStore) ReadAt(p []byte, at int64) (int, error)              { return copy(p, s[at:]), nil }
func (s bytesStore) Size() int64                                         { return int64(len(s)) }
func (s bytesStore) Bytes() []byte                                       { return s }
func (s bytesStore) Close() error                                        { return nil }

// again is a Work that gives one delivery n times.
type again struct {
	d     *mta.Delivery
	route *mta.Route
	left  int
	bad   int
}

func (w *again) Next(context.Context, time.Duration) (*mta.Delivery, *mta.Route, bool) {
	w.left--
	return w.d, w.route, w.left >= 0
}

func (w *again) Report(_ *mta.Delivery, a *mta.Attempt) {
	if a.Results[0].Class != mta.ClassDelivered {
		w.bad++
	}
}

func BenchmarkCarry(b *testing.B) {
	for name, ehlo := range map[string]string{
		"plain":     "250 sink\r\n",
		"pipelined": "250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
		"chunked":   "250-sink\r\n250-PIPELINING\r\n250 CHUNKING\r\n",
	} {
		b.Run(name, func(b *testing.B) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			go sink(l, ehlo)
			at := l.Addr().(*net.TCPAddr).AddrPort()
			id := mta.ID{1}
			content := strings.Repeat(strings.Repeat("x", 62)+"\r\n", 64)
			d := &mta.Delivery{Message: &mta.Message{ID: id, Size: 4096, Envelope: mta.Envelope{Sender: "a@example.org"}}, Recipients: []mta.Recipient{{Address: "b@example.net"}}}
			route := &mta.Route{Port: at.Port(), TLS: mta.TLSNone, Helo: "out.example.org", Hosts: []mta.Host{{Name: "sink", Addresses: []netip.Addr{at.Addr()}}}}
			c := New(Options{Content: bytesStore(content)})
			work := &again{d: d, route: route, left: b.N}
			b.ReportAllocs()
			b.ResetTimer()
			c.Carry(context.Background(), context.Background(), route, work)
			if work.bad > 0 {
				b.Errorf("%d not delivered", work.bad)
			}
		})
	}
}
