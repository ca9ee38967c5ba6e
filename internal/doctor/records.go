package doctor

func recordProbes() []probe { return nil }
