package transport

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"

	"mailout/internal/mta"
	"mailout/internal/smtpclient"
)

// DialTCP is the DialFunc of the real network.
func DialTCP(ctx context.Context, network string, local netip.Addr, remote string) (net.Conn, error) {
	var d net.Dialer
	if local.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
	}
	return d.DialContext(ctx, network, remote)
}

// dial connects to a target within the connect time-out. Whatever goes wrong
// is a fact about the host, except when the machine itself could not.
func (c *Carrier) dial(ctx context.Context, t *mta.Target, port uint16) (net.Conn, *mta.Failure) {
	limited, cancel := context.WithTimeout(ctx, c.settings.Load().ConnectTimeout)
	defer cancel()
	network, ip := "tcp6", t.IP
	if ip.Unmap().Is4() {
		network, ip = "tcp4", ip.Unmap()
	}
	remote := netip.AddrPortFrom(ip, port).String()
	conn, err := c.opt.Dial(limited, network, t.Source.IP, remote)
	if err == nil {
		return conn, nil
	}
	f := &mta.Failure{Stage: mta.StageConnect, Cause: mta.CauseIO, Err: err}
	var timeout net.Error
	switch {
	case ctx.Err() != nil:
		return nil, stopping(mta.StageConnect)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		f.Cause, f.Text = mta.CauseTimeout, "connect to "+remote+": no answer in time"
		return nil, f
	case ours(err):
		f.Cause = mta.CauseLocal
	}
	f.Text = "connect to " + remote + ": " + smtpclient.Words(err)
	if t.Source.IP.IsValid() && f.Cause == mta.CauseLocal {
		f.Text = "connect from " + t.Source.IP.String() + " to " + remote + ": " + smtpclient.Words(err)
	}
	return nil, f
}

// ours reports whether the machine, not the host, kept a connection from being
// made: no descriptors, ports or memory left, or a source address that is not
// the machine's.
func ours(err error) bool {
	for _, e := range [...]syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// stopping is the failure of what was not begun, or dropped, for a shutdown.
func stopping(stage mta.Stage) *mta.Failure {
	return &mta.Failure{Stage: stage, Cause: mta.CauseLocal, Text: "mailout is stopping"}
}
