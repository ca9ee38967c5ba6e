package daemon

import (
	"context"
	"net/netip"
	"time"

	"mailout/internal/admin"
	"mailout/internal/mta"
	"mailout/internal/smtpclient"
	"mailout/internal/transport"
)

// Bounds of a probe: somebody waits for it.
const (
	probeTime    = 90 * time.Second
	probeConnect = 10 * time.Second
	probeReply   = 20 * time.Second
)

// probe connects to the first host of a route that answers and goes as far as
// EHLO, STARTTLS and QUIT; no mail is sent. RCPT is asked only when told.
func (e *explainer) probe(ctx context.Context, r *mta.Route, ask admin.ExplainRequest) (*admin.ExplainedTest, error) {
	pool, err := roots(e.config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	p := &probing{test: &admin.ExplainedTest{Steps: []admin.ExplainedStep{}}, last: time.Now()}
	opt := smtpclient.Options{
		RootCAs: pool, MinVersion: e.config.TLS.MinVersion, Observe: p.observe, LMTP: r.Protocol == mta.LMTP,
		ReplyTimeout: min(probeReply, orTime(e.config.Delivery.ReplyTimeout, probeReply)),
	}
	for _, t := range r.Targets(nil) {
		if p.visit(ctx, &t, r.PortOf(&t.Host), min(probeConnect, orTime(e.config.Delivery.ConnectTimeout, probeConnect)), demand(r, &t.Host, ask.Mail.RequireTLS, opt), ask) {
			return p.test, nil
		}
		if ctx.Err() != nil {
			p.test.Failure = "no session within the time given"
			return p.test, nil
		}
	}
	return p.test, nil
}

func orTime(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// probing notes the steps of a probe with their times.
type probing struct {
	test *admin.ExplainedTest
	last time.Time // the end of the step before
}

// step notes what just ended.
func (p *probing) step(s admin.ExplainedStep) {
	now := time.Now()
	s.MS = now.Sub(p.last).Milliseconds()
	p.last = now
	p.test.Steps = append(p.test.Steps, s)
}

func (p *probing) observe(s smtpclient.Step) {
	shown := admin.ExplainedStep{Stage: s.Stage.String(), Command: s.Command, Reply: s.Reply.String()}
	if s.TLS.Version != "" {
		shown.TLS, shown.Reply = s.TLS.Version+" "+s.TLS.Cipher, ""
		if s.TLS.Verified != "" {
			shown.TLS += ", verified (" + s.TLS.Verified + ")"
		}
	}
	p.step(shown)
}

// visit probes one address; false when nobody answers there, and another is to
// be tried.
func (p *probing) visit(ctx context.Context, t *mta.Target, port uint16, wait time.Duration, opt smtpclient.Options, ask admin.ExplainRequest) bool {
	p.test.Host, p.test.IP, p.test.Failure = t.Host.Name, addressWord(t.IP), ""
	opt.Host, opt.Hello = t.Host.Name, t.Source.Hostname
	if t.Host.Socket != "" && opt.TLS == mta.TLSOpportunistic {
		opt.TLS = mta.TLSNone
	}
	session, failure := p.open(ctx, t, port, wait, opt)
	if failure != nil && failure.Cause == mta.CauseTLS && opt.TLS == mta.TLSOpportunistic {
		// As for mail: TLS spoilt this connection, and is not demanded.
		p.step(admin.ExplainedStep{Stage: mta.StageTLS.String(), Reply: failure.Text + "; TLS is not required: again without it"})
		opt.TLS = mta.TLSNone
		session, failure = p.open(ctx, t, port, wait, opt)
	}
	if failure != nil {
		p.test.Failure = failure.Error()
		return failure.Stage != mta.StageConnect
	}
	stop := context.AfterFunc(ctx, session.Abort)
	defer stop()
	if ask.Mail.RequireTLS && !session.Capabilities().RequireTLS {
		p.test.Failure = t.Host.Name + " does not offer REQUIRETLS: the next host is tried, and without one that does the mail is returned to its sender"
	} else if ask.Rcpt {
		if f := session.Try(ask.Address); f != nil {
			p.test.Failure = f.Error()
		}
	}
	session.Quit()
	p.step(admin.ExplainedStep{Stage: mta.StageQuit.String(), Command: "QUIT"})
	return true
}

// open connects and begins a session.
func (p *probing) open(ctx context.Context, t *mta.Target, port uint16, wait time.Duration, opt smtpclient.Options) (*smtpclient.Session, *mta.Failure) {
	remote := t.Host.Socket
	if remote == "" {
		remote = netip.AddrPortFrom(t.IP.Unmap(), port).String()
	}
	conn, failure := transport.DialTarget(ctx, t, port, wait)
	shown := admin.ExplainedStep{Stage: mta.StageConnect.String(), Command: "connect " + remote}
	if e := t.Source.Egress; e != nil && t.Host.Socket == "" {
		shown.Command += " by " + e.Kind.String() + " " + e.Address
	}
	if failure != nil {
		shown.Reply = failure.Text
		p.step(shown)
		return nil, failure
	}
	p.step(shown)
	return smtpclient.Open(ctx, conn, opt)
}

// addressWord is an address; nothing for a socket.
func addressWord(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
