package daemon

import (
	"context"
	"fmt"

	"mailout/internal/admin"
	"mailout/internal/config"
	"mailout/internal/mta"
)

// Reload reads the configuration file again and applies what may change while
// mail flows; sessions under way keep what they began with. A file with errors
// changes nothing. It names what was applied and what waits for a restart.
func (d *Daemon) Reload(context.Context) (*admin.Reload, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fresh, err := config.Load(d.opts.ConfigPath)
	if err != nil {
		return nil, err
	}
	result := &admin.Reload{Applied: []string{}, NeedsRestart: []string{}}
	applied, needsRestart := config.Diff(d.mu.config, fresh)
	result.Applied = append(result.Applied, applied...)
	result.NeedsRestart = append(result.NeedsRestart, needsRestart...)
	merged := config.Merge(d.mu.config, fresh)
	if err := d.apply(merged); err != nil {
		return nil, err
	}
	d.mu.config = merged
	d.log.Info("configuration reloaded", mta.KeyPath, d.opts.ConfigPath, "applied", result.Applied, "needs_restart", result.NeedsRestart)
	return result, nil
}

// apply tells every part; the steps that can fail come first.
func (d *Daemon) apply(c *config.Config) error {
	settings, err := carrierSettings(c)
	if err != nil {
		return err
	}
	tlsReports, err := tlsReportSettings(c)
	if err != nil {
		return err
	}
	receivers, err := EventSettings(c)
	if err != nil {
		return err
	}
	routes, err := d.planner.Prepare(d.routers.settings(context.Background(), c))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	next, err := d.pickups.prepare(c)
	if err != nil {
		return err
	}
	before := d.authority
	replaced, err := d.useAuthority(c)
	if err != nil {
		return err
	}
	if err := d.loadCertificates(c); err != nil {
		d.restoreAuthority(before)
		return err
	}
	if err := d.returns.Configure(returnsSettings(c)); err != nil {
		d.restoreAuthority(before)
		return fmt.Errorf("%w: [returns]: %w", ErrConfig, err)
	}
	if err := d.links.desk.Configure(linkSettings(c)); err != nil {
		d.restoreAuthority(before)
		return fmt.Errorf("%w: [unsubscribe]: %w", ErrConfig, err)
	}
	d.returns.Classify(readerOf(c))
	if replaced != nil {
		defer replaced.Stop()
	}
	d.warmup.Reconfigure(warmupSettings(c))
	d.standing.Reconfigure(c.Standing())
	d.sources.configure(c)
	d.sts.Reconfigure(stsSettings(c))
	routes.Apply()
	d.routers.settle()
	d.routers.alarms.keep(d.planner.Routers())
	d.carrier.Reconfigure(settings)
	dnsOpts := dnsOptions(c)
	dnsOpts.Logger = d.log
	d.resolver.Reconfigure(dnsOpts)
	d.configureRing(c)
	d.memory.setLimit(c.Limits.Memory)
	d.intake.Configure(intakeSettings(c))
	d.limitSending(c)
	d.queue.Reconfigure(schedules(c), queueLimits(c), c.Hostname)
	d.queue.Replan()
	d.sentinel.configure(c)
	d.suppression.configure(c)
	d.users.Configure(users(c))
	for _, door := range d.doors {
		if l, there := listenerOf(c, door); there {
			l.Returns = door.listener.Returns // as its acceptor was made for
			door.server.Reconfigure(d.doorOf(c, l, door.certificate))
		}
	}
	d.pickups.change(context.Background(), next)
	d.tlsReports.Reconfigure(tlsReports)
	d.reconfigureEvents(receivers)
	return nil
}

// listenerOf finds a door's [[listen]]; one that is gone from the file lives on
// as it is until the restart.
func listenerOf(c *config.Config, d door) (config.Listener, bool) {
	for _, l := range c.Listen {
		if l.Address == d.listener.Address {
			return l, true
		}
	}
	return config.Listener{}, false
}
