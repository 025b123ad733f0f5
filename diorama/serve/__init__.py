"""Pages for people: the report of a run, of a catalogue, and a catalogue to look through."""
