package daemon

import (
	"context"
	"crypto/rand"
	"time"

	"mailout/internal/config"
	"mailout/internal/events"
	"mailout/internal/mta"
	"mailout/internal/smtp"
	"mailout/internal/spool"
)

// EventSettings is what the configuration tells the receivers of events.
func EventSettings(c *config.Config) (events.Settings, error) {
	pool, err := roots(c)
	s := events.Settings{Roots: pool}
	lines := events.Filter{Events: c.Events.Events, Streams: c.Events.Streams}
	s.File = events.File{
		Path: c.Events.File, Size: c.Events.RotateSize, Age: c.Events.RotateAge,
		Keep: c.Events.Keep, KeepSize: c.Events.KeepSize, Filter: lines,
	}
	s.Syslog = events.Syslog{URL: c.Events.Syslog, Filter: lines}
	for _, w := range c.Webhooks {
		s.Webhooks = append(s.Webhooks, events.Webhook{
			Name: w.Name, URL: w.URL, Secrets: w.Secret, Filter: events.Filter{Events: w.Events, Streams: w.Streams},
			Batch: w.Batch, Wait: w.Wait, Timeout: w.Timeout, Concurrency: w.Concurrency,
		})
	}
	return s, err
}

// buildEvents makes those who tell others of the journal.
func (d *Daemon) buildEvents(c *config.Config) error {
	s, err := EventSettings(c)
	if err != nil {
		return err
	}
	d.events = events.NewHub(events.Options{
		Feed: d.store, Logger: d.log, Settings: s, Hostname: c.Hostname, Version: d.opts.Version, Note: d.noteFollower, Lost: d.store.Unfollowed,
	})
	return nil
}

// reconfigureEvents puts a reload in force for the receivers of events. What
// fails is the spool, and told like everything of the spool's.
func (d *Daemon) reconfigureEvents(s events.Settings) {
	const patience = 30 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := d.events.Reconfigure(ctx, s); err != nil {
		d.log.Error("receivers of events could not be changed; a restart does it", mta.KeyError, err)
	}
}

// noteFollower writes what happened to a receiver of events into the journal,
// under an ID of its own.
func (d *Daemon) noteFollower(ctx context.Context, words string) error {
	var entropy [10]byte
	_, _ = rand.Read(entropy[:]) // never fails
	now := time.Now().UTC().Truncate(time.Millisecond)
	sub := &spool.Submission{Message: &mta.Message{ID: mta.NewID(now, entropy), Arrived: now, Stream: mta.DefaultStream}}
	sub.Records = []*mta.Record{{
		Time: now, Event: mta.EventFollower, ID: sub.Message.ID, Recipient: mta.FollowerRecipient, Reason: smtp.Harmless(words),
	}}
	return d.store.Put(ctx, sub)
}
