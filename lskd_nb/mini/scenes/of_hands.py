"""What follows for a person from what is held and what is around; the more particular first."""

from lskd_nb.mini.scenes.situation import Near, Situation
from lskd_nb.mini.scenes.world import ANIMALS, PEOPLE

OF_HANDS = (
    Situation(
        "shelter",
        PEOPLE,
        held="umbrella",
        weather="rainy",
        answers=dict(next="walk on under the umbrella", why="to stay dry", feel="glad to be dry"),
        link="umbrellas keep the rain off",
    ),
    Situation(
        "shade",
        PEOPLE,
        held="umbrella",
        answers=dict(
            next="rest in the shade", why="to be ready for bad weather", feel="well prepared"
        ),
    ),
    Situation(
        "fetch",
        PEOPLE,
        held="ball",
        near=Near(("dog",)),
        answers=dict(
            next="throw the ball for the dog",
            why="to play with the dog",
            role="the one who plays fetch",
        ),
        link="dogs love to fetch",
    ),
    Situation(
        "pass",
        PEOPLE,
        held="ball",
        near=Near(("child",)),
        answers=dict(
            next="pass the ball to the child", why="to play with the child", role="a patient friend"
        ),
        link="children love to play",
    ),
    Situation(
        "late game",
        PEOPLE,
        held="ball",
        time="night",
        answers=dict(
            next="carry the ball home", why="to play until late", role="a player in the dark"
        ),
        link="nobody can catch in the dark",
    ),
    Situation(
        "game",
        PEOPLE,
        held="ball",
        answers=dict(next="start a ball game", why="to find a team to play with", role="a player"),
    ),
    Situation(
        "concert",
        PEOPLE,
        held="guitar",
        place="stage",
        answers=dict(
            next="play the first song",
            why="to entertain the audience",
            role="the star of the concert",
        ),
    ),
    Situation(
        "wet musician",
        PEOPLE,
        held="guitar",
        weather="rainy",
        answers=dict(
            next="play in the rain", why="to have the street alone", role="a wet musician"
        ),
    ),
    Situation(
        "serenade",
        PEOPLE,
        held="guitar",
        near=Near(("woman",)),
        answers=dict(next="sing a love song", why="to win a heart", role="an admirer with a song"),
        link="songs can win a heart",
    ),
    Situation(
        "busker",
        PEOPLE,
        held="guitar",
        answers=dict(
            next="collect some coins", why="to earn money from strangers", role="a street musician"
        ),
    ),
    Situation(
        "storm angler",
        PEOPLE,
        held="rod",
        weather="rainy",
        answers=dict(
            next="pack up the rod", why="to get one last fish", before="waited in the rain"
        ),
        link="storms drive the fish away",
    ),
    Situation(
        "angler",
        PEOPLE,
        held="rod",
        answers=dict(next="pull out a fish", why="to catch dinner", before="put bait on the hook"),
    ),
    Situation(
        "cook for others",
        PEOPLE,
        held="pan",
        near=Near(("child",)),
        answers=dict(
            next="serve the eggs", why="to feed a hungry child", before="asked who is hungry"
        ),
        link="children are always hungry",
    ),
    Situation(
        "cook",
        PEOPLE,
        held="pan",
        answers=dict(
            next="fry some eggs", why="to prepare breakfast", before="turned on the stove"
        ),
    ),
    Situation(
        "farm hand",
        PEOPLE,
        held="broom",
        place="farm",
        answers=dict(
            next="clean out the barn", why="to look after the animals", role="a farm worker"
        ),
    ),
    Situation(
        "shooing",
        PEOPLE,
        held="broom",
        near=Near(ANIMALS),
        answers=dict(
            next="shoo the animal away", why="to keep the ground clean", role="a guard with a broom"
        ),
        link="animals make the ground dirty",
    ),
    Situation(
        "sweeper",
        PEOPLE,
        held="broom",
        answers=dict(next="sweep the ground", why="to clean up after people", role="a cleaner"),
    ),
    Situation(
        "night train",
        PEOPLE,
        held="suitcase",
        time="night",
        answers=dict(
            next="catch the night train", why="to travel until morning", role="a late traveler"
        ),
    ),
    Situation(
        "wet traveler",
        PEOPLE,
        held="suitcase",
        weather="rainy",
        answers=dict(
            next="look for a dry train", why="to travel to the sun", role="a traveler in the rain"
        ),
        link="people travel from bad weather to the sun",
    ),
    Situation(
        "traveler",
        PEOPLE,
        held="suitcase",
        answers=dict(next="leave on a journey", why="to go on vacation", role="a traveler"),
    ),
    Situation(
        "bouquet on stage",
        PEOPLE,
        held="flowers",
        place="stage",
        answers=dict(next="take a bow", why="to thank the audience", before="received applause"),
    ),
    Situation(
        "offered bouquet",
        PEOPLE,
        held="flowers",
        near=Near(("woman",)),
        answers=dict(
            next="offer the flowers", why="to say sorry", before="had a quarrel with somebody"
        ),
        link="flowers can mend a quarrel",
    ),
    Situation(
        "dinner present",
        PEOPLE,
        held="flowers",
        time="night",
        answers=dict(
            next="go to dinner with flowers",
            why="to win a heart at dinner",
            before="was asked to dinner",
        ),
        link="every dinner needs a present",
    ),
    Situation(
        "bouquet",
        PEOPLE,
        held="flowers",
        answers=dict(
            next="hand over the flowers", why="to make somebody smile", before="bought a present"
        ),
    ),
    Situation(
        "storm photographer",
        PEOPLE,
        held="camera",
        weather="rainy",
        answers=dict(
            next="pack up the camera", why="to photograph the storm", role="a storm photographer"
        ),
    ),
    Situation(
        "wildlife",
        PEOPLE,
        held="camera",
        place="farm",
        answers=dict(
            next="photograph the animal",
            why="to show how animals live",
            role="a wildlife photographer",
        ),
    ),
    Situation(
        "night photographer",
        PEOPLE,
        held="camera",
        time="night",
        answers=dict(
            next="photograph the stars",
            why="to show how the night looks",
            role="a photographer of the dark",
        ),
        link="stars come out in the dark",
    ),
    Situation(
        "photographer",
        PEOPLE,
        held="camera",
        answers=dict(next="take a photo", why="to remember this moment", role="a photographer"),
    ),
    Situation(
        "wet book",
        PEOPLE,
        held="book",
        weather="rainy",
        answers=dict(
            next="put the book away", why="to keep the book dry", feel="sad about the wet book"
        ),
    ),
    Situation(
        "reading lamp",
        PEOPLE,
        held="book",
        time="night",
        answers=dict(
            next="go to bed", why="to finish the last chapter", feel="too gripped to sleep"
        ),
    ),
    Situation(
        "story time",
        PEOPLE,
        held="book",
        near=Near(("child",)),
        answers=dict(
            next="read a story to the child", why="to calm the child", feel="patient with the child"
        ),
        link="children love stories",
    ),
    Situation(
        "actor",
        PEOPLE,
        held="book",
        place="stage",
        answers=dict(
            next="read the lines aloud", why="to learn the part", feel="excited about the play"
        ),
    ),
    Situation(
        "reader",
        PEOPLE,
        held="book",
        answers=dict(next="turn the page", why="to enjoy a story", feel="lost in a story"),
    ),
    Situation(
        "party is over",
        PEOPLE,
        held="balloon",
        time="night",
        answers=dict(
            next="take the balloon home",
            why="to remember the party",
            before="was at a party until late",
        ),
        link="a party can last until night",
    ),
    Situation(
        "wet balloon",
        PEOPLE,
        held="balloon",
        weather="rainy",
        answers=dict(
            next="hide the balloon from the rain",
            why="to keep the balloon dry",
            before="was out in the rain",
        ),
    ),
    Situation(
        "shared balloon",
        PEOPLE,
        held="balloon",
        near=Near(("child",)),
        answers=dict(
            next="give the balloon to the child",
            why="to cheer up the child",
            before="blew up the balloon",
        ),
        link="children love balloons",
    ),
    Situation(
        "balloon",
        PEOPLE,
        held="balloon",
        answers=dict(
            next="let the balloon fly",
            why="to celebrate a birthday",
            before="was at a birthday party",
        ),
    ),
)
