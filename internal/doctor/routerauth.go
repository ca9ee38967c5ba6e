package doctor

import (
	"context"
	"crypto/x509"
	"strings"
	"time"

	"mailout/internal/mta"
	"mailout/internal/smtpclient"
)

// soonCertificate is how long before its end a client certificate is warned of.
const soonCertificate = 14 * 24 * time.Hour

// signsIn reports whether AUTH is used.
func (r *Router) signsIn() bool { return r.Auth != nil && r.Auth.SignsIn() }

// certificate is the one to show; nil: none.
func (r *Router) certificate() *mta.Certificate {
	if r.Auth == nil {
		return nil
	}
	return r.Auth.Certificate
}

// judgeAuth proves who we are, if there is something to prove it with.
func (x *exam) judgeAuth(ctx context.Context, s *smtpclient.Session, c *Check) {
	r := &x.id.Router
	if t := r.AuthTrouble; t != nil {
		c.Status, c.Seen = Unknown, t.Why
		if t.Known {
			c.Status, c.Who = Fail, You
			c.Fix = &Fix{Text: "Mend it where [router]" + r.line() + " names it; the daemon takes the new one by itself."}
		}
		return
	}
	if !x.judgeCertificate(c) {
		return
	}
	offered := strings.Join(s.Capabilities().Auth, " ")
	if !r.signsIn() {
		if c.Status != "" {
			return // of the certificate, which is all there is
		}
		c.Status, c.Seen = Skip, "no user name is configured"
		if offered != "" {
			c.Seen += "; the router offers AUTH " + offered
		}
		return
	}
	was := *c
	x.judgeCredentials(s, s.Authenticate(ctx, r.Auth), offered, c)
	if c.Status == Pass && was.Status == Warn {
		c.Status, c.Who, c.Fix = was.Status, was.Who, was.Fix
		c.Seen += "; " + was.Seen
	}
}

func (x *exam) judgeCredentials(s *smtpclient.Session, f *mta.Failure, offered string, c *Check) {
	name := x.id.Router.Auth.Username
	switch {
	case f == nil:
		c.Status, c.Seen = Pass, "it knows "+name
	case f.Cause == mta.CauseNeed && s.TLS().Verified == "":
		c.Status, c.Seen, c.Who = Fail, "credentials are never sent without verified TLS, so the router does not know us", You
		c.Fix = &Fix{Command: "mailout config set router.tls required", Text: "Demand TLS with a certificate that fits."}
	case f.Cause == mta.CauseNeed:
		c.Status, c.Seen, c.Who = Fail, f.Text+" (offered: "+strings.TrimSpace("AUTH "+offered)+")", RouterProvider
		c.Fix = &Fix{Text: "Use the router's port for submission (587 or 465), or name a mechanism that it offers in [router] mechanisms."}
	case f.Cause == mta.CauseRouter:
		c.Status, c.Seen, c.Who = Fail, f.Text, You
		c.Fix = &Fix{Text: "Look at the credentials in [router]" + x.id.Router.line() + ": with oauth, the client and its secret, the tenant and the scopes as the token server knows them; a refresh token that has ended has to be granted anew."}
	case f.Cause == mta.CauseReply && f.Reply.Code/100 == 5:
		c.Status, c.Seen, c.Who = Fail, "it refuses "+name+": "+f.Reply.String()+" ("+f.Text+")", You
		c.Fix = &Fix{Text: "Write the user name and password that the router's provider gave you in [router]; some providers want a password made for programs. A changed password_file is taken by itself."}
	default:
		c.Status, c.Seen = Unknown, f.Error()
	}
}

// judgeCertificate looks at the client certificate's dates. It reports false
// when there is no use in going on.
func (x *exam) judgeCertificate(c *Check) bool {
	own := x.id.Router.certificate()
	if own == nil {
		return true
	}
	leaf, err := x509.ParseCertificate(own.Chain[0])
	if err != nil {
		c.Status, c.Seen, c.Who = Fail, "the client certificate cannot be read: "+err.Error(), You
		return false
	}
	until := mta.FormatTime(leaf.NotAfter)
	renew := &Fix{Text: "Renew the certificate of [router] client_cert" + x.id.Router.line() + "; the daemon takes the new file by itself."}
	switch now := x.world.Now(); {
	case now.After(leaf.NotAfter):
		c.Status, c.Seen, c.Who, c.Fix = Fail, "the client certificate has expired at "+until, You, renew
		return false
	case now.Before(leaf.NotBefore):
		c.Status, c.Seen, c.Who, c.Fix = Fail, "the client certificate is not valid before "+mta.FormatTime(leaf.NotBefore), You, renew
		return false
	case now.Add(soonCertificate).After(leaf.NotAfter):
		c.Status, c.Seen, c.Who, c.Fix = Warn, "the client certificate expires at "+until, You, renew
	default:
		c.Status, c.Seen = Pass, "it takes the session with our client certificate, which is valid until "+until
	}
	return true
}
