package doctor

func reverseProbes() []probe { return nil }
