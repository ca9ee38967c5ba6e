package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"mailout/internal/mta"
	"mailout/internal/smtpclient"
)

// Connections by a proxy of the source's.
//
// What the proxy says of the mail server (refused, unreachable, expired) is a
// fact about that host, as if we had dialled it ourselves. Everything else that
// goes wrong before the connection is made is the source's trouble: another
// source may do, and no mail is bounced for it. Silence after the request has
// been sent is the host's: the proxy waits for it.

// proxyAddresses bounds the addresses of a proxy's name that are tried.
const proxyAddresses = 4

// The methods and replies of SOCKS 5 (RFC 1928).
const (
	socksVersion     = 5
	socksNoAuth      = 0
	socksPassword    = 2 // RFC 1929
	socksNoMethod    = 0xff
	socksConnect     = 1
	socksIPv4        = 1
	socksName        = 3
	socksIPv6        = 4
	passwordVersion  = 1
	socksGranted     = 0
	socksNetUnreach  = 3
	socksHostUnreach = 4
	socksRefused     = 5
	socksExpired     = 6
)

var socksReplies = [...]string{
	"granted", "the proxy failed", "the proxy's rules forbid it", "network unreachable", "host unreachable",
	"connection refused", "time to live expired", "the proxy knows no CONNECT", "the proxy knows no such address",
}

// hostError is what a proxy reported of the host.
type hostError string

func (e hostError) Error() string { return string(e) }

// through connects to a host by the source's proxy. The error is a hostError, a
// time-out after the request was sent (asked), or about the proxy.
func (o *Options) through(ctx context.Context, e *mta.Egress, source netip.Addr, remote netip.AddrPort) (_ net.Conn, asked bool, err error) {
	conn, err := o.dialProxy(ctx, e.Address)
	if err != nil {
		return nil, false, err
	}
	deadline, _ := ctx.Deadline()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	if err = conn.SetDeadline(deadline); err == nil {
		if e.Kind == mta.EgressProxyProtocol {
			err = tellEnds(conn, source, remote)
		} else {
			asked, err = socks(conn, e, remote)
		}
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		conn.Close()
		return nil, asked, err
	}
	return &outConn{conn, &net.TCPAddr{IP: source.AsSlice(), Zone: source.Zone()}}, true, nil
}

// outConn is a connection whose local end is the proxy's.
type outConn struct {
	net.Conn
	local net.Addr
}

// LocalAddr implements net.Conn: the address that the other end sees.
func (c *outConn) LocalAddr() net.Addr { return c.local }

// dialProxy connects to a proxy, whatever the family of the mail server.
func (o *Options) dialProxy(ctx context.Context, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	addrs, err := o.resolveProxy(ctx, host)
	if err != nil {
		return nil, err
	}
	err = errors.New("its name has no address")
	for _, a := range addrs[:min(len(addrs), proxyAddresses)] {
		network := "tcp6"
		if a = a.Unmap(); a.Is4() {
			network = "tcp4"
		}
		var conn net.Conn
		if conn, err = o.Dial(ctx, network, netip.Addr{}, netip.AddrPortFrom(a, uint16(n)).String()); err == nil {
			return conn, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

func (o *Options) resolveProxy(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	return o.Resolve(ctx, host)
}

// resolveBySystem is the default of Options.Resolve.
func resolveBySystem(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// socks asks a SOCKS 5 proxy for a connection. asked reports that the proxy has
// the request: what takes time from then on is the host.
func socks(conn net.Conn, e *mta.Egress, remote netip.AddrPort) (asked bool, err error) {
	if err := socksGreet(conn, e); err != nil {
		return false, err
	}
	ip := remote.Addr().Unmap()
	request := []byte{socksVersion, socksConnect, 0, socksIPv4}
	if ip.Is6() {
		request[3] = socksIPv6
	}
	request = append(request, ip.AsSlice()...)
	request = binary.BigEndian.AppendUint16(request, remote.Port())
	if _, err := conn.Write(request); err != nil {
		return false, err
	}
	return true, socksReply(conn)
}

// socksGreet agrees on a method and signs in (RFC 1928 3, RFC 1929).
func socksGreet(conn net.Conn, e *mta.Egress) error {
	hello := []byte{socksVersion, 1, socksNoAuth}
	if e.Username != "" {
		hello = []byte{socksVersion, 2, socksNoAuth, socksPassword}
	}
	answer, err := exchange2(conn, hello)
	if err != nil {
		return err
	}
	switch {
	case answer[0] != socksVersion:
		return errors.New("it does not speak SOCKS 5")
	case answer[1] == socksNoAuth:
		return nil
	case answer[1] == socksNoMethod && e.Username == "":
		return errors.New("it wants us to sign in, and no username is configured")
	case answer[1] != socksPassword || e.Username == "":
		return errors.New("it takes no way of signing in that we know")
	}
	login := append([]byte{passwordVersion, byte(len(e.Username))}, e.Username...)
	login = append(append(login, byte(len(e.Password))), e.Password...)
	if answer, err = exchange2(conn, login); err != nil {
		return err
	}
	if answer[1] != 0 {
		return errors.New("it refused our user name or password")
	}
	return nil
}

// exchange2 writes, and reads an answer of two octets.
func exchange2(conn net.Conn, b []byte) (answer [2]byte, err error) {
	if _, err = conn.Write(b); err == nil {
		_, err = io.ReadFull(conn, answer[:])
	}
	return answer, closed(err)
}

// socksReply reads the proxy's last word, and nothing behind it: the mail
// server's greeting may follow at once.
func socksReply(conn net.Conn) error {
	var head [5]byte // with the first octet of the address
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return closed(err)
	}
	if head[0] != socksVersion {
		return errors.New("it broke the protocol")
	}
	switch code := head[1]; {
	case code >= socksNetUnreach && code <= socksExpired:
		return hostError(socksReplies[code])
	case int(code) >= len(socksReplies):
		return fmt.Errorf("it answered %d", code)
	case code != socksGranted:
		return errors.New(socksReplies[code])
	}
	rest := 2 // the port
	switch head[3] {
	case socksIPv4:
		rest += 3
	case socksIPv6:
		rest += 15
	case socksName:
		rest += int(head[4])
	default:
		return errors.New("it broke the protocol")
	}
	_, err := io.ReadFull(conn, make([]byte, rest))
	return closed(err)
}

// closed puts an early end into words.
func closed(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.EPIPE) {
		return errors.New("it closed the connection")
	}
	return err
}

// The fixed beginning of a PROXY protocol header of version 2.
const (
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n"
	proxyCommand   = 0x21 // version 2, PROXY
	proxyTCP4      = 0x11
	proxyTCP6      = 0x21
)

// tellEnds writes a PROXY protocol header of version 2: from the source's
// address, with the port that we use towards the proxy, to the mail server's
// address and port.
func tellEnds(conn net.Conn, source netip.Addr, remote netip.AddrPort) error {
	from, to := source.Unmap(), remote.Addr().Unmap()
	family := byte(proxyTCP4)
	if to.Is6() {
		family = proxyTCP6
	}
	if from.Is4() != to.Is4() {
		return errors.New("the source is of another address family than the mail server")
	}
	var port uint16
	if a, ok := conn.LocalAddr().(*net.TCPAddr); ok {
		port = uint16(a.Port)
	}
	ends := append(from.AsSlice(), to.AsSlice()...)
	ends = binary.BigEndian.AppendUint16(ends, port)
	ends = binary.BigEndian.AppendUint16(ends, remote.Port())
	header := append([]byte(proxySignature), proxyCommand, family)
	header = binary.BigEndian.AppendUint16(header, uint16(len(ends)))
	_, err := conn.Write(append(header, ends...))
	return err
}

// CheckEgress asks a source's proxy whether it would serve us, and connects to
// nobody: the error is why not. It takes at most the connect time-out.
func (c *Carrier) CheckEgress(ctx context.Context, e *mta.Egress) error {
	ctx, cancel := context.WithTimeout(ctx, c.settings.Load().ConnectTimeout)
	defer cancel()
	return c.opt.checkEgress(ctx, e)
}

func (o *Options) checkEgress(ctx context.Context, e *mta.Egress) error {
	conn, err := o.dialProxy(ctx, e.Address)
	if err != nil {
		return errors.New(smtpclient.Words(err))
	}
	defer conn.Close()
	if e.Kind == mta.EgressProxyProtocol {
		return nil
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	switch err := socksGreet(conn, e); {
	case ctx.Err() != nil:
		return errors.New("it did not answer in time")
	case err != nil:
		return errors.New(smtpclient.Words(err))
	}
	return nil
}

// DialEgress connects by a proxy over the real network, for other parts than the
// Carrier. ctx bounds the time. source is the proxy's address as others see it.
func DialEgress(ctx context.Context, e *mta.Egress, source netip.Addr, remote netip.AddrPort) (net.Conn, error) {
	o := Options{Dial: DialTCP, Resolve: resolveBySystem}
	conn, _, err := o.through(ctx, e, source, remote)
	return conn, err
}

// CheckEgress is Carrier.CheckEgress over the real network. ctx bounds the time.
func CheckEgress(ctx context.Context, e *mta.Egress) error {
	o := Options{Dial: DialTCP, Resolve: resolveBySystem}
	return o.checkEgress(ctx, e)
}
