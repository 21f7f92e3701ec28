"""The category tree of the sample catalog: 36 leaves, each three levels deep.

A leaf says everything that depends on the category alone: its nouns in both languages, which sizes, materials and
patterns exist, who makes it, how its body is lit and what it costs. Some nouns are shared on purpose ("bottle",
"shoes", "pot", "dish", "bag"), so a title word does not always decide the category. Only wine and spirits are for
adults; juice comes in look-alike bottles that are not.
"""

from dataclasses import dataclass

from ecommerce_vl.data.sample.words import PIGMENTS


@dataclass(frozen=True)
class Category:
    """One leaf. `price` is the range in euro, `weight` how often the leaf appears among styles."""

    key: str
    path: tuple[str, str, str]
    english: tuple[str, ...]
    german: tuple[str, ...]
    sizes: tuple[str, ...]
    materials: tuple[str, ...]
    patterns: tuple[str, ...]
    group: str
    form: str
    price: tuple[int, int]
    colors: tuple[str, ...]
    weight: int
    adult: bool

    def nouns(self, locale: str) -> tuple[str, ...]:
        """Return the nouns for "en" or "de", canonical one first."""
        return self.german if locale == "de" else self.english

    @property
    def product_type(self) -> str:
        """The path as feeds write it, "A > B > C"."""
        return " > ".join(self.path)


_SIZES = {
    "clothes": "XS/S/M/L/XL/XXL",
    "waist": "W28 L32/W30 L32/W32 L32/W34 L34/W36 L34",
    "socks": "35-38/39-42/43-46",
    "shoes": "EU 36/EU 37/EU 38/EU 39/EU 40/EU 41/EU 42/EU 43/EU 44",
    "belt": "80 cm/90 cm/100 cm/110 cm",
    "head": "S/M/L/One Size",
    "scarf": "180 x 30 cm/200 x 70 cm/One Size",
    "one": "One Size",
    "bag": "S/M/L",
    "litre": "15 l/20 l/25 l/30 l",
    "watch": "36 mm/40 mm/44 mm",
    "cup": "250 ml/300 ml/350 ml/400 ml",
    "dish": "16 cm/20 cm/24 cm/27 cm",
    "pan": "1.5 l/2 l/3 l/5 l",
    "height": "15 cm/20 cm/30 cm/45 cm",
    "square": "40x40 cm/45x45 cm/50x50 cm",
    "furniture": "45x45 cm/60x60 cm/80x80 cm/120x80 cm",
    "ball": "Size 3/Size 4/Size 5",
    "phone": "X12/X12 Pro/X13/A54",
    "keys": "US Layout/UK Layout/DE Layout",
    "bottle": "0.375 l/0.75 l/1 l/1.5 l",
}

_CLOTH = "plain striped dotted checked floral zigzag"
_KITCHEN = "plain striped dotted floral zigzag blocked"

# key | path | English | German | sizes | materials | patterns | brand group | form | price | weight
_TABLE = f"""
dress|Apparel > Dresses and Skirts > Dresses|dress,summer dress,gown|Kleid,Sommerkleid,Damenkleid|clothes|cotton linen silk polyester|{_CLOTH}|fashion|flat|25-120|2
skirt|Apparel > Dresses and Skirts > Skirts|skirt,midi skirt|Rock,Midirock,Damenrock|clothes|cotton linen denim silk|{_CLOTH}|fashion|flat|20-80|1
tshirt|Apparel > Tops > T-Shirts|t-shirt,tee,top,shirt|T-Shirt,Shirt,Oberteil|clothes|cotton linen polyester|{_CLOTH} starry blocked|fashion|flat|9-40|2
shirt|Apparel > Tops > Shirts|shirt,button-up shirt,blouse|Hemd,Bluse,Langarmhemd|clothes|cotton linen denim silk|plain striped checked dotted|fashion|flat|20-90|1
sweater|Apparel > Tops > Sweaters|sweater,jumper,pullover,top|Pullover,Strickpullover,Oberteil|clothes|wool cotton|plain striped zigzag blocked starry|fashion|flat|25-130|1
trousers|Apparel > Bottoms > Trousers|trousers,pants,slacks|Hose,Freizeithose|waist|denim cotton linen wool|plain plain striped checked|fashion|flat|25-110|2
jacket|Apparel > Outerwear > Jackets|jacket,zip jacket,coat|Jacke,Übergangsjacke,Mantel|clothes|leather denim polyester wool|plain plain blocked checked|fashion|flat|50-260|1
socks|Apparel > Underwear and Socks > Socks|socks,pair of socks,crew socks|Socken,Strümpfe|socks|cotton wool|plain striped dotted zigzag starry checked|fashion|flat|4-18|1
sneaker|Footwear > Sports Shoes > Sneakers|sneakers,running shoes,trainers,shoes|Sneaker,Laufschuhe,Turnschuhe,Schuhe|shoes|canvas leather suede polyester|plain plain blocked striped|shoes|flat|40-160|2
boot|Footwear > Boots > Ankle Boots|boots,ankle boots,shoes|Stiefel,Stiefeletten,Boots|shoes|leather suede rubber|plain plain blocked|shoes|flat|60-220|1
sandal|Footwear > Summer Shoes > Sandals|sandals,summer shoes,shoes|Sandalen,Sommerschuhe,Schuhe|shoes|leather rubber suede|plain plain striped zigzag|shoes|flat|20-90|1
heel|Footwear > Dress Shoes > High Heels|high heels,pumps,shoes|Pumps,High Heels,Schuhe|shoes|leather suede silk|plain plain dotted blocked|shoes|flat|40-180|1
handbag|Accessories > Bags > Handbags|handbag,bag,tote bag|Handtasche,Tasche,Umhängetasche|bag|leather canvas suede|plain plain striped checked floral|bags|flat|30-250|1
backpack|Accessories > Bags > Backpacks|backpack,rucksack,bag|Rucksack,Tagesrucksack,Tasche|litre|canvas polyester leather|plain blocked checked starry|bags|flat|30-140|1
cap|Accessories > Headwear > Caps|cap,baseball cap,hat|Kappe,Schirmmütze,Cap|head|cotton wool denim|plain plain blocked checked dotted|fashion|flat|10-40|1
belt|Accessories > Belts and Scarves > Belts|belt,waist belt|Gürtel,Taillengürtel|belt|leather suede canvas|plain plain zigzag striped|bags|flat|15-80|1
scarf|Accessories > Belts and Scarves > Scarves|scarf,shawl|Schal,Tuch|scarf|wool silk cotton|striped checked plain zigzag floral dotted|fashion|flat|12-90|1
sunglasses|Accessories > Eyewear > Sunglasses|sunglasses,shades,glasses|Sonnenbrille,Brille|one|plastic metal|plain plain blocked|fashion|flat|15-150|1
watch|Accessories > Watches > Wristwatches|watch,wristwatch|Armbanduhr,Uhr|watch|leather metal rubber|plain plain striped|time|flat|40-400|1
mug|Home > Tableware > Mugs|mug,coffee cup,pot|Tasse,Becher,Kaffeebecher|cup|ceramic metal|{_KITCHEN} starry|kitchen|round|6-25|1
plate|Home > Tableware > Plates|plate,dinner plate,dish|Teller,Speiseteller,Geschirr|dish|ceramic plastic|{_KITCHEN}|kitchen|flat|6-35|1
bowl|Home > Tableware > Bowls|bowl,salad bowl,dish|Schüssel,Schale,Geschirr|dish|ceramic wood metal|{_KITCHEN}|kitchen|round|8-45|1
pot|Home > Cookware > Pots|pot,saucepan,casserole|Topf,Kochtopf,Kasserolle|pan|metal ceramic|plain plain plain blocked|kitchen|round|20-150|1
vase|Home > Decor > Vases|vase,flower vase,pot|Vase,Blumenvase,Dekovase|height|ceramic glass metal|{_KITCHEN}|home|round|12-70|1
cushion|Home > Decor > Cushions|cushion,throw pillow,cushion cover|Kissen,Zierkissen,Kissenbezug|square|cotton linen silk wool|{_CLOTH} starry|home|flat|10-50|1
lamp|Home > Lighting > Table Lamps|lamp,table lamp,desk light|Lampe,Tischlampe,Leuchte|height|metal wood ceramic|plain plain striped dotted zigzag|home|flat|25-140|1
chair|Home > Furniture > Chairs|chair,dining chair,seat|Stuhl,Esszimmerstuhl|furniture|wood plastic metal|plain plain striped|home|flat|40-250|1
table|Home > Furniture > Tables|table,side table,coffee table|Tisch,Beistelltisch,Couchtisch|furniture|wood metal plastic|plain plain blocked|home|flat|50-400|1
ball|Sports and Toys > Ball Games > Balls|ball,football,play ball|Ball,Fußball,Spielball|ball|leather rubber plastic|plain striped dotted blocked starry checked|sport|round|8-60|1
teddy|Sports and Toys > Plush Toys > Teddy Bears|teddy bear,plush bear,soft toy|Teddybär,Plüschtier,Kuscheltier|height|plush wool|plain plain dotted checked|toys|flat|10-50|1
headphones|Electronics > Audio > Headphones|headphones,over-ear headphones,headset|Kopfhörer,Headset|one|plastic metal leather|plain plain blocked|tech|flat|30-300|1
phonecase|Electronics > Phone Accessories > Phone Cases|phone case,case,cover|Handyhülle,Hülle,Schutzhülle|phone|plastic leather rubber|{_CLOTH} starry blocked|tech|flat|8-35|1
keyboard|Electronics > Computer Accessories > Keyboards|keyboard,wireless keyboard|Tastatur,Funktastatur|keys|plastic metal|plain plain blocked|tech|flat|25-180|1
wine|Drinks > Wine > Wine Bottles|wine,table wine,bottle|Wein,Tafelwein,Flasche|bottle|glass|plain striped floral|drinks|round|6-60|1
spirits|Drinks > Spirits > Spirit Bottles|spirit,liqueur,bottle|Spirituose,Likör,Flasche|bottle|glass|plain striped zigzag|drinks|round|15-90|1
juice|Drinks > Soft Drinks > Juice Bottles|juice,fruit juice,bottle|Saft,Fruchtsaft,Flasche|bottle|glass plastic|plain striped floral dotted|drinks|round|2-9|1
"""  # noqa: E501

_COLORS = {
    "wine": ("green", "brown", "black", "white", "red"),
    "spirits": ("green", "brown", "white", "blue", "orange"),
    "juice": ("green", "orange", "red", "yellow", "white", "purple"),
    "teddy": ("brown", "beige", "white", "pink", "blue", "grey"),
    "boot": ("brown", "black", "beige", "olive", "red", "navy", "grey"),
    "belt": ("brown", "black", "beige", "navy", "red", "olive", "white"),
}
_ADULT = {"wine", "spirits"}


def _category(row: str) -> Category:
    key, path, english, german, sizes, materials, patterns, group, form, price, weight = row.split("|")
    low, high = price.split("-")
    return Category(
        key=key,
        path=tuple(path.split(" > ")),
        english=tuple(english.split(",")),
        german=tuple(german.split(",")),
        sizes=tuple(_SIZES[sizes].split("/")),
        materials=tuple(materials.split()),
        patterns=tuple(patterns.split()),
        group=group,
        form=form,
        price=(int(low), int(high)),
        colors=_COLORS.get(key, tuple(PIGMENTS)),
        weight=int(weight),
        adult=key in _ADULT,
    )


CATEGORIES = tuple(_category(row) for row in _TABLE.strip().splitlines())
