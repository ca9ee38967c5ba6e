package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"mailout/internal/admin"
	"mailout/internal/config"
	"mailout/internal/daemon"
	"mailout/internal/dkim"
)

type configCmd struct {
	Check    configCheckCmd    `cmd:"" help:"Check the file; prints every error with its place."`
	Show     configShowCmd     `cmd:"" help:"The effective configuration, with the defaults marked."`
	Get      configGetCmd      `cmd:"" help:"The effective value of a key, such as delivery.expire or route.1.host."`
	Set      configSetCmd      `cmd:"" help:"Change keys in the file; \"set router none\" delivers directly again."`
	Password configPasswordCmd `cmd:"" help:"Read a password and print its hash for [[user]]."`
	Key      configKeyCmd      `cmd:"" help:"Make an HTTP key, and print it once with its line for [[user]]."`
	Reload   configReloadCmd   `cmd:"" help:"Make the daemon read the file again."`
}

type configCheckCmd struct{}

// Run prints nothing when the file is right, and the tables that it names. What
// works and should be otherwise is a warning on standard error.
func (configCheckCmd) Run(g *globals) error {
	c, err := loadConfig(g)
	if err != nil {
		return err
	}
	for _, loose := range c.LooseKeys() {
		fmt.Fprintf(g.Stderr, "warning: %v\n", loose)
	}
	for _, k := range c.DKIM {
		if _, err := dkim.Load(k.Key); err != nil && !errors.Is(err, fs.ErrPermission) { // which is the daemon's alone
			fmt.Fprintf(g.Stderr, "warning: %v\n", &config.Error{File: c.Path, Line: k.Line, Column: 1, Key: "[[dkim]] key", Message: "nothing is signed with it: " + clean(err.Error())})
		}
	}
	return configError(daemon.CheckTables(c))
}

type configShowCmd struct{}

// Run prints TOML.
func (configShowCmd) Run(g *globals) error {
	c, err := loadConfig(g)
	if err != nil {
		return err
	}
	_, err = io.WriteString(g.Stdout, config.Show(c))
	return err
}

type configGetCmd struct {
	Key string `arg:"" help:"Key or table; the tables of a list count from 1."`
}

// Run prints the value alone.
func (cmd *configGetCmd) Run(g *globals) error {
	c, err := loadConfig(g)
	if err != nil {
		return err
	}
	value, err := config.Get(c, cmd.Key)
	if err != nil {
		return configError(err)
	}
	_, err = fmt.Fprintln(g.Stdout, value)
	return err
}

type configSetCmd struct {
	Unset bool     `help:"Remove the keys or tables, so that their defaults hold."`
	Args  []string `arg:"" name:"key-value" help:"KEY VALUE, as often as wanted, or KEYs with --unset. A value is TOML or a bare text: 5d, 25, true, 192.0.2.1,192.0.2.2. \"router HOST[:PORT]\" and \"router none\" are short for its keys."`
}

// Run changes the file, all of it or nothing.
func (cmd *configSetCmd) Run(g *globals) error {
	changes, err := cmd.changes()
	if err != nil {
		return err
	}
	return configError(config.Edit(config.Path(g.Config), changes...))
}

func (cmd *configSetCmd) changes() ([]config.Change, error) {
	var out []config.Change
	if cmd.Unset {
		for _, key := range cmd.Args {
			out = append(out, config.Change{Key: key, Unset: true})
		}
		return out, nil
	}
	if len(cmd.Args)%2 != 0 {
		return nil, fail(exitUsage, "%s has no value (give KEY VALUE)", cmd.Args[len(cmd.Args)-1])
	}
	for i := 0; i < len(cmd.Args); i += 2 {
		out = append(out, config.Change{Key: cmd.Args[i], Value: cmd.Args[i+1]})
	}
	return out, nil
}

type configReloadCmd struct {
	JSON bool `name:"json" help:"Print the daemon's answer as JSON."`
}

// reloadLimit bounds the wait for the daemon's answer.
const reloadLimit = time.Minute

// Run asks the daemon, and prints what it applied and what needs a restart.
func (cmd *configReloadCmd) Run(g *globals) error {
	if _, err := loadConfig(g); err != nil { // with every error, also when no daemon runs
		return err
	}
	daemon, err := connect(g)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), reloadLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, daemon.url("/v1/config/reload", nil), nil)
	if err != nil {
		return err
	}
	body, err := daemon.do(req)
	if err != nil {
		return err
	}
	defer body.Close()
	var answer admin.Reload
	if err := json.NewDecoder(body).Decode(&answer); err != nil {
		return fail(exitUnavailable, "the daemon's answer cannot be read: %v", err)
	}
	return cmd.print(g, &answer)
}

func (cmd *configReloadCmd) print(g *globals, a *admin.Reload) error {
	if cmd.JSON {
		return json.NewEncoder(g.Stdout).Encode(a)
	}
	var b strings.Builder
	for _, key := range a.Applied {
		b.WriteString("applied: " + key + "\n")
	}
	for _, key := range a.NeedsRestart {
		b.WriteString("needs a restart: " + key + "\n")
	}
	if b.Len() == 0 {
		b.WriteString("nothing has changed\n")
	}
	_, err := io.WriteString(g.Stdout, b.String())
	return err
}

// loadConfig reads the configuration file, or fails with its errors, one a
// line, and status 78.
func loadConfig(g *globals) (*config.Config, error) {
	c, err := config.Load(config.Path(g.Config))
	return c, configError(err)
}

// configError gives an error of the configuration its exit status: 64 for a
// key on the command line that does not exist, else 78.
func configError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, config.ErrUnknownKey):
		return &exitError{Status: exitUsage, Err: err}
	}
	return &exitError{Status: exitConfig, Err: err}
}
