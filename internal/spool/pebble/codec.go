package pebble

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/netip"
	"time"
)

// errDamaged says that a value could not be decoded.
var errDamaged = errors.New("damaged value")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal appends the checksum of b[from:].
func seal(b []byte, from int) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[from:], castagnoli))
}

// unseal takes the checksum off, and reports whether it matches.
func unseal(b []byte) ([]byte, bool) {
	n := len(b) - 4
	if n < 0 {
		return nil, false
	}
	return b[:n], crc32.Checksum(b[:n], castagnoli) == binary.LittleEndian.Uint32(b[n:])
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// words are the strings that records hold again and again; a word is stored
// as its place here. Only ever append: the places are on disk.
var words = [...]string{
	"", "default",
	"temporary", "delivered", "permanent", "uncertain",
	"recipient", "message", "host", "site", "local",
	"TLS1.3", "TLS1.2", "TLS 1.3", "TLS 1.2",
	"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256",
	"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
	"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
	"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
	"pkix", "dane",
	"smtp", "send", "http", "sendmail", "pickup", "bounce",
	"SMTP", "ESMTP", "ESMTPS", "ESMTPA", "ESMTPSA", "UTF8SMTP", "UTF8SMTPS", "HTTP", "LOCAL",
	"2.0.0", "2.1.5", "2.6.0", "4.0.0", "4.2.0", "4.2.2", "4.3.0", "4.3.2", "4.4.0", "4.4.1", "4.4.2", "4.4.3", "4.5.3", "4.7.0", "4.7.1",
	"5.0.0", "5.1.1", "5.1.2", "5.1.10", "5.2.1", "5.2.2", "5.3.4", "5.4.4", "5.4.6", "5.4.7", "5.7.0", "5.7.1", "5.7.26",
	"user_unknown", "mailbox_disabled", "domain_unknown", "user_moved", "mailbox_full", "greylisted", "system_error", "network_error", "expired", "rate_limited", "ip_blocked", "ptr_missing",
	"auth_failure", "relay_denied", "tls_required", "sender_rejected", "protocol_error", "spam_content", "virus", "content_invalid", "message_too_large", "policy", "recipient_filtered", "other",
	"operator", "requiretls", "mta-sts", "4.7.4", "4.7.5", "5.7.10", "5.7.30",
}

var wordIndex = func() map[string]uint64 {
	m := make(map[string]uint64, len(words))
	for i, w := range words {
		m[w] = uint64(i)
	}
	return m
}()

// appendWord stores a well-known word as 2×place, another string as
// 2×length+1 and its octets.
func appendWord(b []byte, s string) []byte {
	if i, ok := wordIndex[s]; ok {
		return binary.AppendUvarint(b, i<<1)
	}
	return append(binary.AppendUvarint(b, uint64(len(s))<<1|1), s...)
}

// appendAddr stores an address as its length (0, 4 or 16) and octets. Zones
// are dropped: they mean nothing on another day.
func appendAddr(b []byte, a netip.Addr) []byte {
	a = a.Unmap()
	switch {
	case !a.IsValid():
		return append(b, 0)
	case a.Is4():
		v := a.As4()
		return append(append(b, 4), v[:]...)
	}
	v := a.As16()
	return append(append(b, 16), v[:]...)
}

// appendTime stores a time as the difference to a base, 1 octet when it is
// the same, so that nearby times are short.
func appendTime(b []byte, t time.Time, baseMS int64) []byte {
	if t.IsZero() {
		return binary.AppendUvarint(b, 1)
	}
	d := t.UnixMilli() - baseMS
	return binary.AppendUvarint(b, (uint64(d<<1)^uint64(d>>63))<<1)
}

// reader decodes a value. After the first damage every read gives zero, and
// bad is set; the caller checks once at the end.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) fail() { r.b, r.bad = nil, true }

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	u := r.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// count reads a number of items that take at least one octet each, so that a
// damaged count cannot ask for more memory than the value's own size.
func (r *reader) count() int {
	v := r.uvarint()
	if v > uint64(len(r.b)) {
		r.fail()
		return 0
	}
	return int(v)
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) string() string { return string(r.bytes(r.uvarint())) }

func (r *reader) word() string {
	v := r.uvarint()
	if v&1 == 1 {
		return string(r.bytes(v >> 1))
	}
	if v>>1 >= uint64(len(words)) {
		r.fail()
		return ""
	}
	return words[v>>1]
}

func (r *reader) addr() netip.Addr {
	switch n := r.byte(); n {
	case 0:
		return netip.Addr{}
	case 4, 16:
		a, ok := netip.AddrFromSlice(r.bytes(uint64(n)))
		if !ok {
			r.fail()
		}
		return a
	}
	r.fail()
	return netip.Addr{}
}

func (r *reader) time(baseMS int64) time.Time {
	u := r.uvarint()
	if u&1 == 1 {
		return time.Time{}
	}
	u >>= 1
	return time.UnixMilli(baseMS + (int64(u>>1) ^ -int64(u&1))).UTC()
}
