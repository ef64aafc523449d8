from lincoln_fn.streams.stream import closing as closing
