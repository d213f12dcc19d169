"""Word lists of the generated stories: words for the slots of `tasks/story_templates.py`, and parts of names.

There are two kinds of slots. A STORY slot is drawn once per story, so that a lost kite stays a kite; a SENTENCE slot is
drawn for every sentence. Every list starts with its simplest words, because `n_words` keeps the first ones. No word here
that can follow "a" begins with a vowel.
"""

STORY_SLOTS: dict[str, tuple[str, ...]] = {
    "place": tuple(
        "garden forest lake farm market beach castle park river mill harbour meadow barn hill cave library bakery school "
        "pond lighthouse valley bridge well station theatre museum tower stable greenhouse pier mountain waterfall "
        "campsite cottage field fountain zoo workshop windmill square forge playground ferry vineyard quarry marsh "
        "dairy chapel".split()
    ),
    "thing": tuple(
        "kite ball drum boat lantern basket book puzzle rope wagon blanket hat key map bell whistle balloon spade bucket "
        "ribbon scarf box cup doll robot puppet flute telescope jar mirror pillow paintbrush notebook ring coin shell "
        "feather stone button torch compass clock trumpet camera sledge scooter bicycle tent hammock candle teapot "
        "tambourine".split()
    ),
    "look": tuple(
        "red blue green little yellow big silver golden white purple black brown pink grey striped spotted shiny wooden "
        "round bright heavy new fancy dusty smooth painted crooked velvet patched magic huge strange precious plain "
        "sparkling secret".split()
    ),
    "food": tuple(
        "bread soup cake cheese jam porridge pie honey rice toast pudding fruit salad chocolate popcorn stew pasta butter "
        "cocoa lemonade gingerbread marmalade custard tea".split()
    ),
    "animal": tuple(
        "dog cat rabbit fox bear horse pony duck goat sheep hen mouse frog turtle squirrel hedgehog badger deer kitten "
        "puppy lamb goose robin parrot donkey pig beaver rooster swan crow seal penguin lizard snail bee mole camel "
        "raccoon heron pigeon".split()
    ),
    "weather": tuple(
        "sunny rainy windy cold warm cloudy bright snowy misty quiet stormy frosty mild foggy still chilly breezy "
        "lovely".split()
    ),
    "time": ("day", "morning", "evening", "afternoon", "Sunday", "Monday", "weekend", "Saturday", "holiday", "Friday"),
}
"""Drawn once per story."""

SENTENCE_SLOTS: dict[str, tuple[str, ...]] = {
    "say": tuple("said whispered shouted called cried laughed sang murmured giggled cheered mumbled chuckled".split()),
    "move": tuple(
        "ran walked hurried skipped hopped raced marched danced tiptoed wandered strolled galloped rushed bounced trotted "
        "crept dashed waddled scampered cycled".split()
    ),
    "manner": tuple(
        "quickly slowly quietly loudly gently happily carefully softly proudly kindly politely bravely cheerfully calmly "
        "sweetly boldly neatly warmly patiently swiftly merrily gracefully shyly secretly".split()
    ),
    "joy": tuple(
        "happy glad proud brave merry cheerful jolly delighted thankful hopeful thrilled pleased calm lucky cosy "
        "wonderful".split()
    ),
    "worry": tuple(
        "sad scared worried tired cross lonely shy nervous sleepy puzzled hungry thirsty gloomy grumpy upset bored "
        "jealous muddled".split()
    ),
    "game": tuple(
        "tag catch chess cards football marbles leapfrog hopscotch dominoes skittles pirates detectives dragons "
        "checkers charades tennis".split()
    ),
    "number": tuple("two three four five six seven nine ten twenty fifty sixty ninety".split()),
}
"""Drawn for every sentence."""

FIRST_PARTS: tuple[str, ...] = tuple(
    "Bo Mi Ta Lu Ka Ro Ne Sa Fi Du Pe Vi Ha Jo Za Wi Lo Ma Ti Ru Ke No Se Fa Da Pi Va Hu Ju Zo We Li Mo Te Ra Ki Nu Si "
    "Fe De Po Ve Hi Je Zu Wa La Me Tu Re Ko Na Su Fu Di Pa Vo Ho Ja Ze Ga Be Ye Qui".split()
)
"""First parts of names, the capital ones."""

SECOND_PARTS: tuple[str, ...] = tuple(
    "rin ra lek mon dar sha vin tol bel nor mis kan fer zu gon lia pas dro wen tek bri lor san dil mar que ven tas ron "
    "lin bas dor fin gal han jen kor lan mel nia pol ris sel tin var wyn xa yan zel bor cas del fus gar hol jas ket lum "
    "mak nel pim rup sim tov vek zan".split()
)
"""Second parts of names."""
