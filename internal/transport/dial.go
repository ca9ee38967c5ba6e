package transport

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

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
// is a fact about the host, except when the machine itself could not, or the
// source.
func (c *Carrier) dial(ctx context.Context, t *mta.Target, port uint16) (net.Conn, *mta.Failure) {
	limited, cancel := context.WithTimeout(ctx, c.settings.Load().ConnectTimeout)
	defer cancel()
	if t.Host.Socket != "" {
		conn, err := c.opt.Dial(limited, "unix", netip.Addr{}, t.Host.Socket)
		if err != nil {
			return nil, dialFailure(ctx, err, t.Host.Socket)
		}
		return conn, nil
	}
	remote := netip.AddrPortFrom(t.IP.Unmap(), port)
	if t.IP.Zone() != "" {
		remote = netip.AddrPortFrom(t.IP, port)
	}
	if t.Source.Egress != nil {
		return c.dialOut(ctx, limited, t, remote)
	}
	network := "tcp6"
	if t.IP.Unmap().Is4() {
		network = "tcp4"
	}
	conn, err := c.opt.Dial(limited, network, t.Source.IP, remote.String())
	if err == nil {
		return conn, nil
	}
	f := dialFailure(ctx, err, remote.String())
	if t.Source.IP.IsValid() && f.Cause == mta.CauseLocal && f.Err != nil {
		f.Text = "connect from " + t.Source.IP.String() + " to " + remote.String() + ": " + smtpclient.Words(err)
		if absent(err) {
			f.Cause = mta.CauseSource
			f.Text = t.Source.IP.String() + " is not an address of this machine"
			c.stuck(t.Source, f)
		}
	}
	return nil, f
}

// DialTarget connects to a target over the real network as delivery does, for a
// probe. It takes at most wait.
func DialTarget(ctx context.Context, t *mta.Target, port uint16, wait time.Duration) (net.Conn, *mta.Failure) {
	return New(Options{Settings: Settings{ConnectTimeout: wait}}).dial(ctx, t, port)
}

// dialOut connects by the source's proxy.
func (c *Carrier) dialOut(ctx, limited context.Context, t *mta.Target, remote netip.AddrPort) (net.Conn, *mta.Failure) {
	e := t.Source.Egress
	conn, asked, err := c.opt.through(limited, e, t.Source.IP, remote)
	if err == nil {
		return conn, nil
	}
	by := " by " + e.Kind.String() + " " + e.Address
	var host hostError
	switch f := dialFailure(ctx, err, remote.String()+by); {
	case ctx.Err() != nil || asked && f.Cause == mta.CauseTimeout:
		return nil, f
	case errors.As(err, &host):
		f.Cause, f.Text = mta.CauseIO, "connect to "+remote.String()+by+": "+host.Error()
		return nil, f
	default:
		words := smtpclient.Words(err)
		if f.Cause == mta.CauseTimeout {
			words = "no answer in time"
		}
		f.Cause, f.Text = mta.CauseSource, "the "+e.Kind.String()+" proxy "+e.Address+" of "+t.Source.IP.String()+": "+words
		if !asked { // else it serves us, and is not to go to this host, or cannot
			c.stuck(t.Source, f)
		}
		return nil, f
	}
}

// stuck tells whoever watches the sources.
func (c *Carrier) stuck(s mta.Source, f *mta.Failure) {
	if c.opt.Stuck != nil {
		c.opt.Stuck(s, f)
	}
}

// dialFailure states what kept a connection from being made.
func dialFailure(ctx context.Context, err error, remote string) *mta.Failure {
	f := &mta.Failure{Stage: mta.StageConnect, Cause: mta.CauseIO, Err: err}
	var timeout net.Error
	switch {
	case ctx.Err() != nil:
		return stopping(mta.StageConnect)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		f.Cause, f.Text = mta.CauseTimeout, "connect to "+remote+": no answer in time"
		return f
	case ours(err):
		f.Cause = mta.CauseLocal
	}
	f.Text = "connect to " + remote + ": " + smtpclient.Words(err)
	return f
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

// absent reports that the source's address is not on this machine. The same
// error of connect, not of bind, says that its ports have run out.
func absent(err error) bool {
	var call *os.SyscallError
	return errors.Is(err, syscall.EADDRNOTAVAIL) && (!errors.As(err, &call) || call.Syscall == "bind")
}

// stopping is the failure of what was not begun, or dropped, for a shutdown.
func stopping(stage mta.Stage) *mta.Failure {
	return &mta.Failure{Stage: stage, Cause: mta.CauseLocal, Text: "mailout is stopping"}
}
