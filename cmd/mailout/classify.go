package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	"mailout/internal/bounce"
	"mailout/internal/config"
)

// classifyCmd names what reply lines mean. It asks no network and needs no
// daemon.
type classifyCmd struct {
	Rules string `help:"File of own rules, which come before the shipped ones." placeholder:"FILE" type:"path"`
	MX    string `name:"mx" help:"Name of the mail server that said it, for [[classify]] rules that ask." placeholder:"HOST"`
}

// maxReplyLine bounds one line of input; replies have 64 KB at most.
const maxReplyLine = 1 << 20

// Run prints class and action for each line of standard input.
func (c *classifyCmd) Run(g *globals) error {
	rules, err := configuredRules(g)
	if err != nil {
		return err
	}
	if c.Rules != "" {
		text, err := os.ReadFile(c.Rules)
		if err != nil {
			return fail(exitNoInput, "%v", err)
		}
		if rules, err = rules.With(string(text)); err != nil {
			return fail(exitData, "%s: %v", c.Rules, err)
		}
	}
	in := bufio.NewScanner(g.Stdin)
	in.Buffer(make([]byte, 64<<10), maxReplyLine)
	out := bufio.NewWriter(g.Stdout)
	for in.Scan() {
		reply := replyOf(in.Text())
		reply.Host = c.MX
		class := rules.Classify(reply)
		fmt.Fprintf(out, "%s\t%s\n", class, class.Action())
	}
	if err := in.Err(); err != nil {
		return fail(exitIO, "reading the replies: %v", err)
	}
	if err := out.Flush(); err != nil {
		return fail(exitIO, "writing the classes: %v", err)
	}
	return nil
}

// configuredRules are those of the configuration's [[classify]] before the
// shipped ones. Only a file that was named must be there and be right: replies
// can be classified where mailout is not set up.
func configuredRules(g *globals) (*bounce.Classifier, error) {
	path := config.Path(g.Config)
	named := path != config.DefaultPath
	data, err := os.ReadFile(path)
	if err != nil {
		if named {
			return nil, fail(exitConfig, "%v", err)
		}
		return bounce.New(), nil
	}
	cfg, err := config.Parse(path, data)
	if err == nil {
		var rules *bounce.Classifier
		if rules, err = cfg.Classifier(); err == nil {
			return rules, nil
		}
	}
	if named {
		return nil, fail(exitConfig, "%v", err)
	}
	fmt.Fprintf(g.Stderr, "mailout: %s has errors (\"mailout config check\"), its [[classify]] rules are not used\n", path)
	return bounce.New(), nil
}

// replyOf reads a line: code, enhanced code and text between tabs, any of them
// empty and more columns behind them ignored, or a reply as a server writes it.
func replyOf(line string) bounce.Reply {
	if f := strings.Split(line, "\t"); len(f) >= 3 {
		code, _ := strconv.Atoi(strings.TrimSpace(f[0])) // not a number: unknown
		return bounce.Reply{Code: code, Enhanced: strings.TrimSpace(f[1]), Text: f[2]}
	}
	r := bounce.Reply{Text: strings.TrimSpace(line)}
	if code, err := strconv.Atoi(r.Text[:min(3, len(r.Text))]); err == nil && code >= 200 && code < 600 {
		r.Code, r.Text = code, strings.TrimLeft(r.Text[3:], " -")
	}
	return r
}
