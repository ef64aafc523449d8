from lincoln_fn.errors.suggestions import no_attribute as no_attribute, suggest as suggest
