package dns

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	wire "github.com/miekg/dns"
)

const (
	udpSize    = 1232 // EDNS0 payload that is not fragmented (DNS flag day 2020)
	udpBuffer  = 4096 // what is read at most; a longer datagram counts as truncated
	maxStrays  = 64   // datagrams that are not our answer, read before a query is given up
	headerSize = 12
)

// Reasons for which one exchange gives no usable message.
var (
	errTruncated = errors.New("truncated answer")
	errMalformed = errors.New("malformed answer")
	errStrays    = errors.New("too many answers to other questions")
)

// query is one question on its way to one server. A new one is made for each
// message sent, so that every message has an ID of its own.
type query struct {
	id    uint16
	name  string
	qtype uint16
	edns  bool
	wire  []byte
}

// asked is what a question says to a server.
type asked struct {
	name  string
	qtype uint16
	// unchecked asks the server not to check signatures (CD, RFC 4035 3.2.2): some
	// give them only then.
	unchecked bool
}

// query packs a question. RD is set because we are a stub; AD because we want to
// know about validation (RFC 6840 5.7); DO because we may check the signatures, and
// because some servers give the AD bit only then.
func (a asked) query(edns bool) (*query, error) {
	return pack(a.name, a.qtype, edns, wire.MsgHdr{RecursionDesired: true, AuthenticatedData: true, CheckingDisabled: a.unchecked})
}

// pack makes a query with the flags of a header and an ID of its own.
func pack(name string, qtype uint16, edns bool, flags wire.MsgHdr) (*query, error) {
	var id [2]byte
	rand.Read(id[:]) // never fails (crypto/rand)
	q := &query{id: binary.BigEndian.Uint16(id[:]), name: name, qtype: qtype, edns: edns}
	flags.Id = q.id
	m := wire.Msg{MsgHdr: flags, Question: []wire.Question{{Name: name, Qtype: qtype, Qclass: wire.ClassINET}}}
	if edns {
		m.SetEdns0(udpSize, true)
	}
	packed, err := m.Pack()
	if err != nil {
		return nil, fmt.Errorf("pack the query: %w", err)
	}
	q.wire = packed
	return q, nil
}

// parse reads a message as the answer to q. It gives nil, nil for a message
// that answers something else, errTruncated and errMalformed for ours that
// cannot be used.
func (q *query) parse(b []byte) (*wire.Msg, error) {
	if len(b) < headerSize || binary.BigEndian.Uint16(b) != q.id || b[2]&0x80 == 0 {
		return nil, nil
	}
	truncated := b[2]&0x02 != 0
	m := new(wire.Msg)
	err := m.Unpack(b)
	if len(m.Question) > 0 && !q.asked(m.Question) {
		return nil, nil
	}
	switch {
	case truncated:
		return nil, errTruncated
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	case m.Opcode != wire.OpcodeQuery:
		return nil, fmt.Errorf("%w: opcode %d", errMalformed, m.Opcode)
	case len(m.Question) == 0 && (m.Rcode == wire.RcodeSuccess || m.Rcode == wire.RcodeNameError):
		// Only an error may come without the question.
		return nil, fmt.Errorf("%w: no question", errMalformed)
	case len(m.Answer) != int(binary.BigEndian.Uint16(b[6:])) || len(m.Ns) != int(binary.BigEndian.Uint16(b[8:])):
		// The message ends before what its header counts: believing it would
		// turn records into "no such record".
		return nil, fmt.Errorf("%w: records missing", errMalformed)
	}
	return m, nil
}

func (q *query) asked(questions []wire.Question) bool {
	return len(questions) == 1 && questions[0].Qtype == q.qtype &&
		questions[0].Qclass == wire.ClassINET && strings.EqualFold(questions[0].Name, q.name)
}

// ask puts one question to one server, by whatever means make it answer:
// UDP, then TCP, then both without EDNS0. The message has any response code.
func (s *settings) ask(ctx context.Context, server string, a asked) (*wire.Msg, error) {
	m, err := s.udpThenTCP(ctx, server, a, true)
	if err != nil || !refusesEDNS(m) {
		return m, err
	}
	return s.udpThenTCP(ctx, server, a, false)
}

// refusesEDNS reports an answer by which a server says that it does not know
// EDNS0 (RFC 6891 7), or not our version.
func refusesEDNS(m *wire.Msg) bool {
	return m.Rcode == wire.RcodeFormatError || m.Rcode == wire.RcodeNotImplemented || m.Rcode == wire.RcodeBadVers
}

func (s *settings) udpThenTCP(ctx context.Context, server string, a asked, edns bool) (*wire.Msg, error) {
	m, err := s.send(ctx, "udp", server, a, edns)
	if errors.Is(err, errTruncated) || errors.Is(err, errMalformed) || errors.Is(err, errStrays) {
		// A forged or broken datagram gets no further than this: over TCP an
		// attacker off the path cannot answer (RFC 5452 9.2).
		return s.send(ctx, "tcp", server, a, edns)
	}
	return m, err
}

// send asks over one transport.
func (s *settings) send(ctx context.Context, network, server string, a asked, edns bool) (*wire.Msg, error) {
	q, err := a.query(edns)
	if err != nil {
		return nil, err
	}
	return s.exchange(ctx, network, server, q)
}

// exchange makes one socket for one query and waits for its answer at most the
// time-out, connecting included.
func (s *settings) exchange(ctx context.Context, network, server string, q *query) (*wire.Msg, error) {
	if d := s.tls[server]; d != nil {
		return d.exchange(ctx, s, q)
	}
	deadline := time.Now().Add(s.timeout)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	conn, err := s.dial(ctx, network, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	// A deadline in the past ends the read when the caller gives up.
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if network == "udp" {
		return q.overUDP(conn)
	}
	return q.overTCP(conn)
}

// overUDP reads datagrams until one answers the question.
func (q *query) overUDP(conn net.Conn) (*wire.Msg, error) {
	if _, err := conn.Write(q.wire); err != nil {
		return nil, err
	}
	buf := make([]byte, udpBuffer)
	for range maxStrays {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		m, err := q.parse(buf[:n])
		if m != nil || err != nil {
			return m, err
		}
	}
	return nil, errStrays
}

// overTCP frames query and answer with their lengths (RFC 1035 4.2.2).
func (q *query) overTCP(conn net.Conn) (*wire.Msg, error) {
	framed := append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(q.wire)), uint16(len(q.wire))), q.wire...)
	if _, err := conn.Write(framed); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	buf := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, buf); err != nil {
		return nil, err
	}
	m, err := q.parse(buf)
	if m == nil && err == nil {
		err = fmt.Errorf("%w: it answers another question", errMalformed)
	}
	return m, err
}
