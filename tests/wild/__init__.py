"""Small networks that do what real code bases do; a package, since `properties` has a `networks` too."""
