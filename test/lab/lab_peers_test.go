package lab

import "testing"

func TestLabPlaceholder(t *testing.T) { needLab(t) }
