"""What users have written and pickled by the modules' former names."""

import base64
import pickle
import sys
import zlib
from importlib import import_module

import pytest
import torch
from helpers.compare import same_bits

import lincoln_fn as lf
from lincoln_fn.core.former_names import FORMER_NAMES, current_name
from lincoln_fn.losses.common.parts import first_check

# (net, step, state, lf.data.batches), pickled before the modules were moved.
# fmt: off
PICKLED = zlib.decompress(base64.b85decode(
    "c-q}p&2t<_72l89PklR%Ek{u>n1o$omX-V=nGYG9AV;h%JF*i*f*E>uTKmSDotd5Kkt3>9<s76~R2Lj}QWdED0UUEo4s"
    "liBN)>+sSGZEe0g40f&CKr3thH4fxP&>(boYDx`q%Hh{=J^Z%7^cqN(E0v&KkPevJ6w*F>40f=Z-IPx9HpRtMB^<6{(o"
    "4!+kmLaz|%IMdPN+E6df3=LIvNQmx9uj^#XJj^@i^)6)&1o31RhxnM$|5xEds;1M%+Yb~o|Tdpp2%k<^MYr|fD#hk&K-"
    "0)>SToM7<%n_~+>FWCj70AkBAA}EzJUhApw-$&|)+0!)wHu&=DVV_lMK^WfLrN+e*yz#lT+ct;@+<IMl@>Qu%M*=^RGK"
    "<-{U>tb5!c%wRGKF*#1^9ggs1<KmW*}e#Ky4G3$}!qXLp#1HdN2l(O;cPRVtdp9?6%+S#(>>;F_FKlM{PhQ<ex?00_=_"
    "o1!TTw!<~OC45=h@ywR6ECXXeUPE&|+AW$1qeQ#2JrQmB984b`kcF~t;;7noSm3Dz^i+;IF7+0%S76#6Gh3XDm2eGUW}"
    "9m$n25)7(`!<c!Y${+451*Mc{WHS3}OT`@O26e%)u!#ZdxiLXB{`f_>C$dgtIUY=OWNA2cTgAhf;D<?Z;Tv-izjZ6J7~"
    "b76X;Jm`cL-#lGHG;5>X4(I3g20PbMIpNm1pEjD$N*P?`k8YL2$^x@mEgq?hw(KH|Oayo3P+!T(^UD}sCJ$eR$WSXQmg"
    ";sbDCO=}x%ULz@^KibLilVEA$e=EZCg+-q+okna2@EC+;+jVbIhESc{=N(4D83HIV5$~H@QKW6+!o+B(lT!wti`p#*@8"
    ")o*7KuqgYzfzcLQBIrg%__!$VvO{qk=8flr5*NCYNv5lc7Q6#Zh5l%xvNm>@IogJ7{A!VP#07knK@egv~9nR`YuhmzAC"
    "MSoOs79}rulmw%a1(dw#QS3)0izs=?8%BGu>kFXtl?S_7df?-<3ph=|X)h;$uSXIB{z?LPUqZku3E+JR0k0;2_ay}U)d"
    "cXqgn)l52K)$_O&##=nbCOd=@=T<my_$E%G=Zr;|3)t!vx$!8Y!xM+JFr?c{gmItXfisJh~yLZbY4vl_%6VnQX}E4eH*"
    "+-ii9SE#+tnU73R-%wUUn0Ncb#As-@{A8lbmS758p1*Cfxbr*ux0=5=|)*`k7CqWUB%)}hy3T{i~9=>}){$@=s0BPQ^T"
    "sO&2IKbWDBb8hD9&mWBgH@-B=`b%}e0GA04)mflf1?+`eGBf(0>+@@8EjxBi&kW5pe&URM=DI7y2xZFEMw@KpCCiZT+8"
    "xIfi`DNuhT@1v3ArwW_ZXFG9UQdmE|a=X!%eU1aq(wyF|s*I7Ab`Tf3Xc+VoX-bjKCM+93<hAcNe8+adU$!rQ?ph2OG;"
    "-U*7^3o(?zXl*Df-RU=b{Yve&wMxCVRK=jqCulI7i()^lzZH0w%5Sk_b&&bIj(;;1Ju)9`+x3rwT9@~1jR{U<_YV9#oT"
    "}2)jN$k<uYdMidVU8#8_q9jtYdSN$Y?k?8I^U7x7dDc9H|vE#j*DMV+6zA3-;q5!-HUT^hI8?Oj`d~Dz@iv+*UkrcupL"
    "y2Dw%mG$S(J8C+n-UZya&a!?2}B|IQ;UXGWf9p(xfD^2XOgW=PoLV7w;E+6*GrA~z%Pl`?@eaM1eJAxY2VF{Mu5?sdVS"
    "5S5pR&Z<;uEBTUd+_}yu+~V!^*Ekq7_%NQ=48Z}4-<@O#i)Ka!I;)qs<&cPZzLGgicx(h!I)Nz>dpTJ)!SpK-X2T!_E@"
    "U7$5OpLmg?aR_;HLfyC`hHt&x%2usJev2ks_EVnhouq6K&}VpnI#t}tL%7_ckE*cH&&JxnpRfBfJVC!IZD!)9~XY#oEv"
    "KT;pisi#t*<GJ@YWg%cju5HQ^;4L?}dK?1}4}aG2OlZUQCQMYp-IV!I8Qqllkr58lO<BHApL_Tt!b8f>hj%}i!mCVp3k"
    "-)tDv*=Ha#~PRJ)z_E`4sXw{m*Esz!PRU>fUnCugIxT$;A(AbG)w^7Sq%n$LgrfeL?rN8_%UvsmGaLm5qOYy#CMg4}X9"
    "6T<vk@_TRGjKIo<@+q38b+p&a&aMeA$3nN!|)2OgLg%U#-!l3J)rZcmfd9q!`L9uTml^_$j-RwbEsch$P&;`p8-CQHHo"
    "yDGRif+E4Y%65LGTYrkL-9OZv$9<v<q&W;)e1IHUPs*GUN~6prnje2=i22<ORFoFt}HDrFR!k4L%S{8>t-AIP0>}}L~9"
    "Sasgrcmtd@_W`<pNR^i=y-@%kqpefqS1;n!>HfBk&z<G;VUcDU6@HL{J&Q6tkxA05+=gJJNXQn_;Cj-%n_R(l;w7hVvy"
    "#1=dcq5|HH?3dk}m+RM7mXqGhjPqusi{8vc-ZXYs*53N#(bK?tnZri<@EG>UKVGwX6clDGF___1nce04i5n00U72n0eM"
    ")ospA~NC(#)5^rMFOJj7OL2SL;_VCp?-S=g~+PJ(`X@`sdI7@`rzv)-RGrtJTPxZc{2$s{cP6bamy*@}=ef&OwoG%t8G"
    "p;UN64jW{~Ww~^~L-pQCOG?~DQrP~v={{XNZF(U"
))

# (nll, cross_entropy, softmax_cross_entropy, step), pickled before losses had optional targets and
# an axis of the classes.
PICKLED_LOSSES = zlib.decompress(base64.b85decode(
    "c-pO3O^g&p6b5&Gc6LF~uz)|f0T1qC99cL>BnFYV1i`_dcu+z*J<~P&y6Nej^bgCDm`Dt|ONt2D0#}ryiKh+mur5S{pfNF"
    "u#(3~2@#@dT#2?Q1Ue$DW&2Fz6;~ZwH>b-jJ)mQI*ujZw~*$u0g$<Gj9>)Kw!cRi!&Rb4*}Stx%5FYKqEX)%0UyeNiv!82"
    "P-@S^9sL&JiXn|?5E2A1HJX6!X0-*<6OxorlKZMwLPZ(3});kR18R}GjIHzM2j1n)HxJJaHXct#AtO6ce1Q9o$Ku9<p=BJ"
    "V-R=uF#NXfe|hP=-D}u-F%=Lpia!ewfZs8fW$xM54x5*khg_FvIpNc2qp^*3FwY<60!@yti&P4$FXG9Sq_ziVZ*ZA_09k-"
    "<X)&BzK&^(B!6)?X}|w&)?U^_-qy534|jugE2;ek{Z!su>q`c7|rvNp@!(CUyh8X9fT2yRv7xiw2148GZ@5B`gz4j15JY3"
    "4!0*taUE_+kz3UW5E6rVQQ)^H@bU;USed|mTdKISOHsf8td-~v=G<hrW{UG3!Wr(a!G;V|jChowgpKHSGz0O;E)Zb|HpBh"
    "!08~-uLDU|>->r*IzCAhX?%cC(4*h1-GLIVFXLijxbB(a&`w`gQ*dtr2BTK_DkZU7@<G#gkEU_bnrP&P&U$r10v1jL{H|T"
    "RdL5!t{u?(@+5{T7cq_z}J^$aJzUW+^mOxr`()i7dhET(7aC$07#50ka4tQuG@Ro9$g0jBVN`Kwju>W~Fk_d^!*LN>H*n9"
    "#*qifuQtJt787elv<_55G&ZI&Qj$i5A*^XsfF3->uEkc#0A*tRv+ILm;LJ1-zVw(3|)s*X#5<qF}?S6w5n7fX>R=E+7I}Z"
    "pV3HFAY#~7G@H#-;|V5^b9|a#J(P0sM}^JCV9Ui5kv0f_iB!41%tDXkvnaIhuW*nbl94vhlY&Uvylf|M63lXFvkVIXDPd3"
    "!*m(a?kb~uuOtaxp&(Ug@U~*Ka)*<M!j986MYwb<B(0P^F2cE#&-x^v8DoKI5hQa&gER?gHjlHiX&o`W1|#e$NdI7ZW6V-"
    "Srd^**N?weB1=u?7=*p&6-S$|ubDeO7Zi5(2z=v=RC#5lywh1`NZ&gECRyL!S1T%ci!X#4Hv4VaGl_(A<ec&=0SZ#E|)lB"
    "e}9asz%9bDzT9%EK$SVt*_>l6?|?GkJ!dC`#L1gx*%bOu(y5E;WKI3}?#28<m;7gGpQ5D+do8Q+n#Fdl?#mp02XK5V;mi{"
    "E39)WR+}zU|R!!B7G5iX9qefKAF0Q<woo>eHbZ=0%IOBM|$R^FF|wXa@c<=3!W+wre)<va-?vs+fU=F{%RNrKgm78dz^us"
    "}*&92e%v&RH4KPfFsK%N+SZ0PXkhgb20JKuN{}a!SC<~y8RQ^Zoum(o5_*QpzH$5W^-h-D0>%Wb2+j(l)Z<t`5f6i$}XYo"
    "GQ1BT$o#}f`4zlX3}p&V!Jr(^z<HWcC8*j%>L7u<ey6;A*|Omd+0M#cvvSv*9M8$|yd2NVv2+Hf@OBFFZKXA=b@>fz$?gP"
    "J(ubg#+grfdv#j$;dWkFhNb5iM5NAD}S8F2`za7~v#cX$KX(N}bny_*p9c!f58;)5+ssqnpJ6*HL0?I|o!_GDZHYQ%nrxJ"
    "-<B0V85$=4ZHo8r1s+_uaJtGUnFirbur@hh>jBe8Rf8)W^~c?g#?dlk!UwV5Yda=N&p!}u0!m=oGM5(YNUz(0aj)r)s1k1"
    "D2|?P#(S5E3O7Y?MayxE9f9Cn9Gj#gHG7^Jv#>SJ&(@a^&om-<eaqp_1i$gu@gsv}0noKE5HZ_t#B)1FHu>B^xL49YB*>g"
    "U##lnB=^p@EV+kGYd#Xr~IZFMr~yBu14%UPd@0WGXoc}mipjgryV&jXh{ciN)bB|%&X!2w9tweuE15e1|Px4@Clmw6h)uG"
    "=eTwqzJM>`YxrgozMX>a;0O3|7=GHf9DbgHU%I2s*g_|^4sVp<hK#72#vGtfQYLc_Dvg<ZjT}DH#Ykz+A!T4LUjvEFF_p%"
    "Az6R2pQ&$@K4Cg#20nbQIE;vQ}%J^-fo8Q!)l;YGhWjQs~h)yo(uX1OAH2#Utx~L>g7WKf!=T5?t3;r)Uyi-Jf$AHdBRKo"
    "o2n9%+?5i=?&{uz^h^b)&*U>VeN@Ly5oWEWMU@f~tOC!qhi++S5)ncinMy&!75EdL~9&#v(bwSLvfr<{EmFZBemC!DA0UP"
    "fwgX4rWLhc#YOJL%yTiRxcOEnC("
))
# fmt: on


@pytest.mark.parametrize("former", FORMER_NAMES)
def test_a_module_is_imported_by_its_former_name(former):
    module = import_module(f"lincoln_fn.{former}")
    assert module is sys.modules[f"lincoln_fn.{FORMER_NAMES[former]}"]


def test_what_users_import_from_former_modules():
    from lincoln_fn.data import batches
    from lincoln_fn.layer import Layer
    from lincoln_fn.record import record
    from lincoln_fn.shapes import LayerError, NonFiniteError, check_cotangent

    assert (batches, Layer, record, LayerError) == (
        lf.data.batches, lf.Layer, lf.record, lf.LayerError,
    )  # fmt: skip
    assert (lf.shapes.NonFiniteError, lf.shapes.check_cotangent, lf.paths.paths) == (
        NonFiniteError, check_cotangent, lf.walk.paths.paths,
    )  # fmt: skip
    assert lf.fit is lf.training.fit.fit


def test_a_pickle_of_before_is_loaded_and_computes_the_same():
    net, step, state, batches = pickle.loads(PICKLED)
    x = torch.arange(6.0).view(2, 3) / 6
    now = lf.serial(lf.dense(2), lf.tanh())
    assert same_bits(net.forward(state.params, x), now.forward(state.params, x))
    made = lf.make_step(now, lf.losses.mse(), lf.optim.sgd(0.1))
    assert same_bits(step(state, (x, x[:, :2])), made(state, (x, x[:, :2])))
    assert batches is lf.data.batches


def test_a_class_has_the_name_of_today():
    assert current_name("lincoln_fn.train.TrainState") == "lincoln_fn.training.train.TrainState"
    assert current_name("lincoln_fn.layers.dense.Params") == "lincoln_fn.layers.dense.Params"
    assert current_name("mine.train.TrainState") == "mine.train.TrainState"


def test_losses_of_before_have_the_classes_on_axis_1():
    *made, step = pickle.loads(PICKLED_LOSSES)
    x, labels = torch.arange(6.0).view(2, 3) / 6, torch.tensor([2, 0])
    smoothed = lf.losses.softmax_cross_entropy(label_smoothing=0.1)
    predictions = x.log_softmax(1), x.softmax(1), x
    for loss, now, prediction in zip(
        made, (lf.losses.nll(), lf.losses.cross_entropy(), smoothed), predictions, strict=True
    ):
        check = first_check(loss)
        if check is not None:
            check(prediction, labels)
        assert same_bits(loss.forward(prediction, labels)[0], now.forward(prediction, labels)[0])
    net, optimizer = lf.serial(lf.dense(3)), lf.optim.sgd(0.1)
    new = lf.make_step(net, lf.losses.softmax_cross_entropy(), optimizer)
    state = lf.init_state(net, optimizer, lf.Key(0), x)
    assert same_bits(step(state, (x, labels)), new(state, (x, labels)))


@pytest.mark.parametrize(
    ("net", "module"),
    [
        (lf.residual(lf.tanh()), "branch"),
        (lf.branch(lf.tanh(), lf.relu()), "branch"),
        (lf.parallel(lf.tanh()), "parallel"),
        (lf.with_context(lf.add()), "context"),
        (lf.geglu(3), "gated_feed_forward"),
        (lf.frozen(lf.tanh()), "frozen"),
        (lf.constant(lf.tanh()), "constant"),
    ],
    ids=str,
)
def test_the_loops_that_pickles_name_are_those_of_the_combinator(net, module):
    own, made = import_module(f"lincoln_fn.combine.{module}"), net.composition
    assert made.init is own._init
    if module in ("frozen", "constant"):
        assert made.gather is own._gather
    else:
        assert (made.there, made.back) == (own._there, own._back)


@pytest.mark.parametrize("net", [lf.checkpointed(lf.tanh()), lf.tapped(lf.serial(lf.tanh()), "0")])
def test_the_advance_that_pickles_name_is_that_of_the_combinator(net):
    own = import_module(f"lincoln_fn.combine.{net.composition.label}")
    assert net.composition.advance is own._advance
