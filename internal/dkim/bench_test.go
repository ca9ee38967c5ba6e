package dkim_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mailout/internal/dkim"
)

// ordinary is a message of about 4 KB as applications send it.
func ordinary(size int) string {
	head := "Received: from erp.widget.com (erp.widget.com [192.0.2.7])\r\n\tby mailout.ofc.widget.com with ESMTP\r\n\tid 01J0000000000000000000000A; Mon, 23 Nov 2026 10:00:00 +0000\r\n" +
		"From: \"Widget, Invoices\" <invoices@origin.test>\r\nTo: Someone <someone@example.net>\r\nSubject: Invoice 2026-11-0815 for November\r\n" +
		"Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <2026-11-0815.1@origin.test>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
	line := "The quick brown fox jumps over the lazy dog, and does so again today.\r\n"
	return head + strings.Repeat(line, 1+(size-len(head))/len(line))
}

func BenchmarkSign(b *testing.B) {
	pair, _ := pair(b)
	for _, keys := range [][]dkim.SigningKey{nil, pair[1:], pair[:1], pair} {
		name := "none" // all but the keys' own work
		if len(keys) > 0 {
			name = string(keys[0].Key.Algorithm())
		}
		if len(keys) > 1 {
			name = "both"
		}
		for _, size := range []int{4 << 10, 100 << 10} {
			b.Run(fmt.Sprintf("%s/%dKB", name, size>>10), func(b *testing.B) {
				text := dkim.Octets(ordinary(size))
				b.SetBytes(int64(len(text)))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := dkim.Sign(nil, text, keys, time.Time{}); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
			})
		}
	}
}

// all gives the same keys to everybody.
type all []dkim.SigningKey

func (a all) For(string) []dkim.SigningKey { return a }

// BenchmarkSigner is what a message with one destination costs on its way, with
// Ed25519.
func BenchmarkSigner(b *testing.B) {
	keys, _ := pair(b)
	s := dkim.NewSigner(all(keys[1:]), nil)
	o := &dkim.Outgoing{Content: dkim.Octets(ordinary(4 << 10))}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Sign(o); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}
